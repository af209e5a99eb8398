import type { TestProject } from "vitest/node";
import { downKind, upKind } from "#clusters/kind/cluster.ts";

declare module "vitest" {
  interface ProvidedContext {
    kind: string;
  }
}

const progress = (line: string) => console.error(line);

/** The platform on a kind cluster: the one that KIND_CLUSTER names, or one of its own that goes away afterwards. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const named = process.env["KIND_CLUSTER"];
  const name = named ?? "baton-test";
  const end = async () => {
    if (named === undefined) await downKind(name, progress);
  };
  await upKind(name, progress).catch(async (error: unknown) => {
    await end();
    throw error;
  });
  project.provide("kind", name);
  return end;
}
