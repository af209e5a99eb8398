import { rm } from "node:fs/promises";
import { join } from "node:path";
import { KubeConfig } from "@kubernetes/client-node";
import { downCluster, upCluster } from "#clusters/local/lifecycle.ts";
import { clusterFolder, type Ports } from "#clusters/local/state.ts";
import { installKinds } from "./custom-resources.ts";

export interface TestCluster {
  readonly name: string;
  readonly folder: string;
  readonly ports: Ports;
}

/** Starts a local cluster from nothing, with Baton's kinds and the tests' images. */
export async function freshCluster(
  name: string,
  progress: (line: string) => void = () => {},
): Promise<TestCluster> {
  await wipeCluster(name);
  process.env["BATON_IMAGES"] = join(import.meta.dirname, "images.yaml");
  const { folder, ports } = await upCluster(name, progress);
  const config = new KubeConfig();
  config.loadFromFile(join(folder, "pki", "admin.kubeconfig"));
  await installKinds(config);
  return { name, folder, ports };
}

/** Ends a cluster and leaves nothing of it. */
export async function wipeCluster(name: string): Promise<void> {
  await downCluster(name);
  await rm(clusterFolder(name), { recursive: true, force: true });
}

/** Does something with a cluster of its own, which is gone afterwards, also when it is interrupted. */
export async function withCluster(
  name: string,
  work: (cluster: TestCluster) => Promise<void>,
): Promise<void> {
  const interrupted = () => void wipeCluster(name).finally(() => process.exit(130));
  process.once("SIGINT", interrupted).once("SIGTERM", interrupted);
  try {
    await work(await freshCluster(name));
  } finally {
    await wipeCluster(name);
    process.off("SIGINT", interrupted).off("SIGTERM", interrupted);
  }
}
