import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** How a tool comes onto the machine when it is not there yet. */
export type Source =
  | {
      readonly kind: "go";
      /** A folder below `go/`. */
      readonly module: string;
      readonly package: string;
      readonly ldflags: string;
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
const KAFKA = "4.3.1";
const [major, minor] = KUBERNETES.split(".");
const STRIP = "-s -w";
// Without these the binaries call themselves v0.0.0 and clients refuse to talk to them.
const STAMP = [`gitVersion=v${KUBERNETES}`, `gitMajor=${major}`, `gitMinor=${minor}`]
  .map((value) => `-X k8s.io/component-base/version.${value}`)
  .join(" ");

function kubernetes(name: string, coldSeconds: number, versionArgs = ["--version"]): Tool {
  const accepts = /v1\.34\.\d+/;
  const command = `k8s.io/kubernetes/cmd/${name}`;
  return {
    ...goTool(name, KUBERNETES, accepts, "kubernetes", command, STAMP, coldSeconds),
    versionArgs,
  };
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
  goTool("etcd", "3.6.16", /etcd Version: 3\.[56]\./, "etcd", "go.etcd.io/etcd/server/v3", "", 50),
  kubernetes("kube-apiserver", 275),
  kubernetes("kube-controller-manager", 75),
  kubernetes("kube-scheduler", 10),
  kubernetes("kubectl", 30, ["version", "--client"]),
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
