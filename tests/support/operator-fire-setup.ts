import type { TestProject } from "vitest/node";
import { freshCluster, wipeCluster } from "./fresh-cluster.ts";
import { runInNameOnly } from "./kwok.ts";

const NAME = "fire";

/** Starts a cluster whose pods run in name only, and leaves nothing of it behind. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const cluster = await freshCluster(NAME, (line) => console.error(line));
  const end = await runInNameOnly(cluster);
  project.provide("cluster", cluster);
  return async () => {
    await end();
    await wipeCluster(NAME);
  };
}
