import { rm } from "node:fs/promises";
import { join } from "node:path";
import { KubeConfig } from "@kubernetes/client-node";
import type { TestProject } from "vitest/node";
import { downCluster, upCluster } from "#clusters/local/lifecycle.ts";
import { clusterFolder, type Ports } from "#clusters/local/state.ts";
import { installKinds } from "./custom-resources.ts";

export interface TestCluster {
  readonly name: string;
  readonly folder: string;
  readonly ports: Ports;
}

declare module "vitest" {
  interface ProvidedContext {
    cluster: TestCluster;
  }
}

const NAME = "test";

/** Starts a cluster of its own for the run, from nothing, and leaves nothing behind. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  await wipe();
  process.env["BATON_IMAGES"] = join(import.meta.dirname, "images.yaml");
  const state = await upCluster(NAME, (line) => console.error(line));
  const config = new KubeConfig();
  config.loadFromFile(join(state.folder, "pki", "admin.kubeconfig"));
  await installKinds(config);
  project.provide("cluster", { name: NAME, folder: state.folder, ports: state.ports });
  return wipe;
}

async function wipe(): Promise<void> {
  await downCluster(NAME);
  await rm(clusterFolder(NAME), { recursive: true, force: true });
}
