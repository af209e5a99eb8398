import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundle } from "#clusters/images/bundle.ts";
import { SERVICE_IMAGES } from "#clusters/images/catalog.ts";

/**
 * Does something with the operator as its image has it: a bundled file, which is gone afterwards, with Node's arguments.
 * @param work is given what to run Node with
 */
export async function withShippedOperator(work: (args: readonly string[]) => Promise<void>): Promise<void> {
  const image = SERVICE_IMAGES.find(({ name }) => name === "operator");
  if (image === undefined) throw new Error("there is no image of the operator");
  const shipped = await mkdtemp(join(tmpdir(), "baton-operator-"));
  try {
    await bundle(image.entry, image.packages, shipped);
    await work([...(await flags()), join(shipped, "main.js")]);
  } finally {
    await rm(shipped, { recursive: true });
  }
}

async function flags(): Promise<readonly string[]> {
  const text = await readFile(join(import.meta.dirname, "../../clusters/images/service.Dockerfile"), "utf8");
  const [last = "[]"] = text.split("ENTRYPOINT ").slice(-1);
  return (JSON.parse(last) as string[]).filter((arg) => arg.startsWith("--"));
}
