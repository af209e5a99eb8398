import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type ReleaseFile, releaseArchitecture } from "./release.ts";

/** How a tool comes onto the machine when it is not there yet. */
export type Source =
  | {
      readonly kind: "go";
      /** A folder below `go/`. */
      readonly module: string;
      readonly package: string;
      readonly ldflags: string;
      /** The official binary of the same version, for machines that reach its publisher. */
      readonly release?: ReleaseFile;
      /** A folder of a module whose files come with the binary. */
      readonly files?: { readonly of: string; readonly folder: string };
    }
  | { readonly kind: "maven" }
  | { readonly kind: "debian"; readonly package: string };

export interface Tool {
  readonly name: string;
  /** The version that is built, and the name of its cache folder. */
  readonly version: string;
  /** What `--version` must print for a copy found on the machine to be good enough. */
  readonly accepts: RegExp;
  readonly versionArgs: readonly string[];
  readonly source: Source;
  /** Seconds a first build took on two cores, told to whoever waits for it. */
  readonly coldSeconds: number;
}

/** The version of all that is Kubernetes. */
export const KUBERNETES = "1.34.4";
const ETCD = "3.6.14";
const KAFKA = "4.3.1";
const [major, minor] = KUBERNETES.split(".");
const STRIP = "-s -w";
// Without these the binaries call themselves v0.0.0 and clients refuse to talk to them.
const STAMP = [`gitVersion=v${KUBERNETES}`, `gitMajor=${major}`, `gitMinor=${minor}`]
  .map((value) => `-X k8s.io/component-base/version.${value}`)
  .join(" ");

type Sums = Readonly<Record<"amd64" | "arm64", string>>;
/** As the release's own files `bin/linux/<architecture>/<name>.sha256` say. */
const KUBERNETES_SUMS: Readonly<Record<string, Sums>> = {
  "kube-apiserver": {
    amd64: "9da2739e1cb9981986e181e9104be1863ef1d54c497e3c0232b41e1171582180",
    arm64: "6920f4b3e83521bc0fa591eb266f462c3c95b2a681f39aa6fea3daf6141882fe",
  },
  "kube-controller-manager": {
    amd64: "089a7b944b1cd46f5e61d12dfe27ff769ebb6c11a1d671cfaae140a4174c039d",
    arm64: "9c44a983b516eb5741aa1cf9d5c38a0180893fb17bd464bf2f03c84ce000a29d",
  },
  "kube-scheduler": {
    amd64: "c21cc43d0d83ae406747587e7f1724f3d4a4f59e6b8095cb443d204a2affc848",
    arm64: "92d517a8f6e4bb7fc2cb2db790ca78efea34820617ee3b8120f93d9e034aac9a",
  },
  kubectl: {
    amd64: "d50c359d95e0841eaad08ddc27c7be37cba8fdccfba5c8e2ded65e121ff112db",
    arm64: "5b982c0644ab1e27780246b9085a5886651b4a7ed86243acbb2bacc1bea01dda",
  },
  kubelet: {
    amd64: "03b8fea715a7ef82eeaf518dee34c72670c57cc7bc40dc1320c04fbf4f15172f",
    arm64: "c78845473c434ee85a2444eeab87f8b20f524e3ab6854a078f79468f44aad8f5",
  },
  "kube-proxy": {
    amd64: "707c5b303bf957b90812d3b0f4aa4733aabf9e997000ad59176c3487b061c13b",
    arm64: "e07d767710209884982e4ca0abedf1ae85def5349da7fa8d70c1490090eaa4e1",
  },
  kubeadm: {
    amd64: "b967f1fa0e36621c402d38bb560eb4a943954d5cf5a00e5150842f6f5da73455",
    arm64: "d8028b7e8c8d6c9b3fc3da6bc88d4d0cfb33df1b4b026a7d6e8c35d1471c9f6e",
  },
};
/** As SHA256SUMS of the release says. */
const ETCD_SUMS: Sums = {
  amd64: "ffe840ff9295808e88cce2794a18a5ac87f12a5203c8314d0bf6aa119b41bac5",
  arm64: "fa1b80565ee6fc2df1ae6f57a508b221f3ecc7d591c317c581cd8281b0842b3e",
};

function kubernetes(
  name: string,
  coldSeconds: number,
  { accepts = /v1\.34\.\d+/, versionArgs = ["--version"] } = {},
): Tool {
  const tool = goTool(
    name,
    KUBERNETES,
    accepts,
    "kubernetes",
    `k8s.io/kubernetes/cmd/${name}`,
    STAMP,
    coldSeconds,
  );
  const sums = KUBERNETES_SUMS[name];
  const file = (arch: keyof Sums, sha256: string) => ({
    path: `v${KUBERNETES}/bin/linux/${arch}/${name}`,
    sha256,
  });
  return { ...withRelease(tool, "kubernetes", sums, file), versionArgs };
}

function etcd(): Tool {
  const tool = goTool("etcd", ETCD, /etcd Version: 3\.[56]\./, "etcd", "go.etcd.io/etcd/server/v3", "", 50);
  return withRelease(tool, "etcd", ETCD_SUMS, (arch, sha256) => {
    const name = `etcd-v${ETCD}-linux-${arch}`;
    return { path: `v${ETCD}/${name}.tar.gz`, sha256, member: `${name}/etcd` };
  });
}

function withRelease(
  tool: Tool,
  project: ReleaseFile["project"],
  sums: Sums | undefined,
  file: (arch: keyof Sums, sha256: string) => Omit<ReleaseFile, "project">,
): Tool {
  const arch = releaseArchitecture();
  if (arch === undefined || sums === undefined || tool.source.kind !== "go") return tool;
  return { ...tool, source: { ...tool.source, release: { project, ...file(arch, sums[arch]) } } };
}

function goTool(
  name: string,
  version: string,
  accepts: RegExp,
  module: string,
  command: string,
  stamp: string,
  coldSeconds: number,
): Tool {
  const ldflags = `${STRIP} ${stamp}`.trim();
  const source = { kind: "go", module, package: command, ldflags } as const;
  return { name, version, accepts, versionArgs: ["--version"], source, coldSeconds };
}

/** A program whose source is in this repository: it is built anew when that changes. */
function ownTool(name: string, module: string, folder: string, coldSeconds: number): Tool {
  const go = join(import.meta.dirname, "go");
  const hash = createHash("sha256").update(readFileSync(join(go, module, "go.mod")));
  for (const file of readdirSync(join(go, folder)).sort())
    hash.update(file).update(readFileSync(join(go, folder, file)));
  const version = hash.digest("hex").slice(0, 12);
  const command = `baton.dev/toolchain/${folder}`;
  const stamp = `-X main.version=${version}`;
  return goTool(name, version, new RegExp(version), module, command, stamp, coldSeconds);
}

/** Everything the local cluster runs, in the order in which it is fetched. */
export const TOOLS: readonly Tool[] = [
  {
    name: "redis-server",
    version: "system",
    accepts: /v=[78]\./,
    versionArgs: ["--version"],
    source: { kind: "debian", package: "redis-server" },
    coldSeconds: 5,
  },
  {
    name: "prometheus",
    version: "system",
    accepts: /version [23]\./,
    versionArgs: ["--version"],
    source: { kind: "debian", package: "prometheus" },
    coldSeconds: 10,
  },
  {
    name: "kafka",
    version: KAFKA,
    accepts: /^/,
    versionArgs: [],
    source: { kind: "maven" },
    coldSeconds: 10,
  },
  ownTool("baton-container", "container", "container", 5),
  etcd(),
  kubernetes("kube-apiserver", 275),
  kubernetes("kube-controller-manager", 75),
  kubernetes("kube-scheduler", 10),
  // A client may be one minor version away from its server.
  kubernetes("kubectl", 30, { accepts: /v1\.3[345]\.\d+/, versionArgs: ["version", "--client"] }),
  // After the others, whose packages it shares.
  ownTool("baton-streams", "kubernetes", "kubernetes/streams", 10),
];

/** Runs pods in name only, for benchmarks with more of them than there is room for. */
export const KWOK: Tool = goTool(
  "kwok",
  "0.8.0",
  /v0\.8\.\d+/,
  "kwok",
  "sigs.k8s.io/kwok/cmd/kwok",
  "-X sigs.k8s.io/kwok/pkg/consts.Version=v0.8.0",
  90,
);

/** Syncs Git into the cluster; started under several names it is each of its parts. */
export const ARGOCD: Tool = {
  name: "argocd",
  version: "3.2.6",
  accepts: /v3\.2\.6/,
  versionArgs: ["version", "--client", "--short"],
  source: {
    kind: "go",
    module: "argocd",
    package: "github.com/argoproj/argo-cd/v3/cmd",
    ldflags: `${STRIP} -X github.com/argoproj/argo-cd/v3/common.version=3.2.6`,
    // The definitions of its own kinds.
    files: { of: "github.com/argoproj/argo-cd/v3", folder: "manifests/crds" },
  },
  coldSeconds: 280,
};

/** The peer that the operator is measured beside. */
export const ARGO_ROLLOUTS: Tool = {
  name: "argo-rollouts",
  version: "1.8.4",
  accepts: /1\.8\.4/,
  versionArgs: ["--version"],
  source: {
    kind: "go",
    module: "argo-rollouts",
    package: "github.com/argoproj/argo-rollouts/cmd/rollouts-controller",
    ldflags: `${STRIP} -X github.com/argoproj/argo-rollouts/utils/version.version=v1.8.4`,
    // The definitions of its own kinds.
    files: { of: "github.com/argoproj/argo-rollouts", folder: "manifests/crds" },
  },
  coldSeconds: 240,
};

/** Holds manifests against the schemas of their kinds. */
export const KUBECONFORM: Tool = {
  ...goTool(
    "kubeconform",
    "0.8.0",
    /v0\.8\.\d+/,
    "kubeconform",
    "github.com/yannh/kubeconform/cmd/kubeconform",
    "-X main.version=v0.8.0",
    10,
  ),
  versionArgs: ["-v"],
};

/** Holds manifests against what others have learnt about them. */
export const KUBE_SCORE: Tool = {
  ...goTool(
    "kube-score",
    "1.20.0",
    /1\.20\.\d+/,
    "kube-score",
    "github.com/zegl/kube-score/cmd/kube-score",
    "-X main.version=1.20.0",
    30,
  ),
  versionArgs: ["version"],
};

/** Runs nodes as containers. */
export const KIND: Tool = goTool("kind", "0.33.0", /0\.33\./, "kind", "sigs.k8s.io/kind", "", 30);

/** What a node is made of where no image of one can be had, beside the local cluster's own tools. */
export const NODE_TOOLS: readonly Tool[] = [
  kubernetes("kubelet", 90),
  kubernetes("kube-proxy", 15),
  kubernetes("kubeadm", 20),
  goTool("coredns", "1.15.0", /1\.15\./, "coredns", "github.com/coredns/coredns", "", 260),
  // Routes and network policies of pods.
  goTool("podnet", "1", /^/, "podnet", "baton.dev/toolchain/podnet", "", 20),
  goTool("pause", "1", /^/, "podnet", "baton.dev/toolchain/podnet/pause", "", 1),
];

/** For images, where Debian's will not do: that one was built without Kubernetes' discovery. */
export const PROMETHEUS_SERVER: Tool = goTool(
  "prometheus-server",
  "3.9.1",
  /3\.9\.1/,
  "prometheus",
  "github.com/prometheus/prometheus/cmd/prometheus",
  "-X github.com/prometheus/common/version.Version=3.9.1",
  240,
);

export const ALERTMANAGER: Tool = {
  name: "prometheus-alertmanager",
  version: "system",
  accepts: /version 0\./,
  versionArgs: ["--version"],
  source: { kind: "debian", package: "prometheus-alertmanager" },
  coldSeconds: 5,
};

/** The folder that holds one version of one tool. */
export function toolFolder(cache: string, tool: Tool): string {
  return join(cache, "toolchain", `${tool.name}-${tool.version}`);
}

/** The order in which a binary is looked for: what the user named, then PATH, then our cache. */
export function candidates(
  tool: Tool,
  env: Readonly<Record<string, string | undefined>>,
  cache: string,
): string[] {
  const named = env["KUBEBUILDER_ASSETS"];
  const path = (env["PATH"] ?? "").split(":").filter((folder) => folder !== "");
  const folders = [...(named === undefined || named === "" ? [] : [named]), ...path, toolFolder(cache, tool)];
  // Debian keeps daemons where an ordinary user's PATH does not look.
  const system = tool.source.kind === "debian" ? ["/usr/bin", "/usr/sbin"] : [];
  return [...new Set([...folders, ...system].map((folder) => join(folder, tool.name)))];
}
