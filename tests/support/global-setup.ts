import type { TestProject } from "vitest/node";
import { freshCluster, type TestCluster, wipeCluster } from "./fresh-cluster.ts";

declare module "vitest" {
  interface ProvidedContext {
    cluster: TestCluster;
  }
}

const NAME = "test";

/** Starts a cluster of its own for the run, from nothing, and leaves nothing behind. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  project.provide("cluster", await freshCluster(NAME, (line) => console.error(line)));
  return () => wipeCluster(NAME);
}
