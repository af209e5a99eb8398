// Which images there are and what is in each.

/** What a service of ours is built from. */
export interface ServiceImage {
  readonly name: string;
  readonly entry: string;
  readonly base: string;
  /** Packages that stay as they are, beside the bundle: native ones, and one of which we replace parts. */
  readonly packages: readonly string[];
  /** The stage of service.Dockerfile that it is; `service` when absent. */
  readonly stage?: string;
  /** Files of the repository that it reads, by the same path. */
  readonly files?: readonly string[];
}

/** A program of others, or what services of ours stand on. */
export interface ServerImage {
  readonly name: string;
  /** Programs of this machine, found on the PATH, that come with their libraries. */
  readonly programs?: readonly string[];
  /** Tools of the toolchain, and what they are called in the image. */
  readonly tools?: Readonly<Record<string, string>>;
  /** Whole folders or files of this machine: where they are, and where they go. */
  readonly paths?: readonly (readonly [from: string, to: string])[];
  /** Links by path, with what they point to. */
  readonly links?: Readonly<Record<string, string>>;
  /** Java and Kafka's jars. */
  readonly kafka?: boolean;
  /** The Node that runs this program. */
  readonly node?: boolean;
  /** What it writes to: belongs to its user, and so does a new volume there, which takes over the owner. */
  readonly data?: string;
}

const KAFKA_PACKAGES = ["kafkajs", "kafkajs-snappy", "lz4-napi"];

export const SERVICE_IMAGES: readonly ServiceImage[] = [
  { name: "market-data", entry: "apps/market-data/main.ts", base: "base-node", packages: KAFKA_PACKAGES },
  { name: "features", entry: "apps/features/main.ts", base: "base-node", packages: KAFKA_PACKAGES },
  {
    name: "signal-model",
    entry: "apps/signal-model/main.ts",
    base: "base-node",
    packages: [...KAFKA_PACKAGES, "onnxruntime-node"],
    files: ["apps/signal-model/models/momentum"],
  },
  {
    name: "operator",
    entry: "operators/model-deployment/main.ts",
    base: "base-node",
    packages: KAFKA_PACKAGES,
    stage: "operator",
  },
  {
    name: "git-write-back",
    entry: "apps/git-write-back/main.ts",
    base: "base-git",
    packages: KAFKA_PACKAGES,
  },
  { name: "cli", entry: "apps/baton/main.ts", base: "base-node", packages: KAFKA_PACKAGES },
];

const both = (path: string) => [path, path] as const;
const CERTIFICATES = both("/etc/ssl/certs/ca-certificates.crt");

/** What services stand on, before them; then the servers that a cluster without a registry needs. */
export const BASE_IMAGES: readonly ServerImage[] = [
  { name: "base-node", node: true, paths: [CERTIFICATES] },
  {
    name: "base-git",
    node: true,
    programs: ["git", "ssh", "ssh-keygen", "dash"],
    paths: [CERTIFICATES, both("/usr/lib/git-core")],
    // git runs its credential helpers through a shell.
    links: { "/bin/sh": "/usr/bin/dash" },
  },
];

export const SERVER_IMAGES: readonly ServerImage[] = [
  { name: "kafka", kafka: true, data: "/var/lib/kafka" },
  { name: "redis", programs: ["redis-server"], data: "/var/lib/redis" },
  {
    name: "prometheus",
    tools: { "prometheus-server": "prometheus" },
    paths: [CERTIFICATES],
    data: "/var/lib/prometheus",
  },
  {
    name: "alertmanager",
    tools: { "prometheus-alertmanager": "alertmanager" },
    // Debian's build reads its templates of messages from there.
    paths: [CERTIFICATES, both("/usr/share/prometheus/alertmanager")],
    data: "/var/lib/alertmanager",
  },
];

/** The tools that images are made of, by their names in the toolchain; nothing else has to be there. */
export function toolsFor(images: readonly string[]): readonly string[] {
  const chosen = SERVER_IMAGES.filter(({ name }) => images.includes(name));
  return chosen.flatMap(({ programs = [], tools = {}, kafka }) => [
    ...programs,
    ...Object.keys(tools),
    ...(kafka === true ? ["kafka"] : []),
  ]);
}
