import { join } from "node:path";
import { KubeConfig } from "@kubernetes/client-node";
import { ensureToolchain, toolPath } from "#clusters/local/toolchain/index.ts";
import { KWOK } from "#clusters/local/toolchain/tools.ts";
import { KubeApi, type KubeObject, type Resource } from "#operators/controller-kit/api.ts";
import type { TestCluster } from "./fresh-cluster.ts";
import { Subject } from "./processes.ts";
import { waitFor } from "./wait.ts";

const NODES: Resource = { group: "", version: "v1", plural: "nodes", kind: "Node" };
type Node = KubeObject & {
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
};

/** From now on the cluster's pods run in name only, on a node of KWOK's. Resolves with what ends it. */
export async function runInNameOnly(
  cluster: TestCluster,
  progress: (line: string) => void = () => {},
): Promise<() => Promise<void>> {
  const toolchain = await ensureToolchain({ progress, more: [KWOK] });
  const kubeconfig = join(cluster.folder, "pki", "admin.kubeconfig");
  const kwok = new Subject(toolPath(toolchain, "kwok"), [
    `--kubeconfig=${kubeconfig}`,
    "--manage-all-nodes=false",
    "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
    `--config=${join(import.meta.dirname, "kwok-stages.yaml")}`,
    // Without a sign of life the node is taken for dead after 40 s, and its pods with it.
    "--node-lease-duration-seconds=40",
  ]);
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  const api = new KubeApi(config, { fieldManager: "test" });
  try {
    for (const node of await api.listAll(NODES))
      await api.merge(NODES, undefined, node.metadata.name, { spec: { unschedulable: true } });
    const annotations = { "kwok.x-k8s.io/node": "fake" };
    await api.create(NODES, { metadata: { name: "kwok", annotations, labels: { type: "kwok" } } });
    kwok.start();
    await waitFor(
      "KWOK's node",
      async () => {
        const { status } = await api.get<Node>(NODES, undefined, "kwok");
        return status?.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True");
      },
      30_000,
    );
  } catch (error) {
    await kwok.end("SIGTERM");
    throw new Error(`${String(error)}\n${kwok.output}`);
  } finally {
    api.close();
  }
  return async () => {
    await kwok.end("SIGTERM");
  };
}
