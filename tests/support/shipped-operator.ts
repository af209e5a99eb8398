import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundle } from "#clusters/images/bundle.ts";
import { SERVICE_IMAGES } from "#clusters/images/catalog.ts";

/** Does something with the operator as its image has it: `main` is its bundled file, which is gone afterwards. */
export async function withShippedOperator(work: (main: string) => Promise<void>): Promise<void> {
  const image = SERVICE_IMAGES.find(({ name }) => name === "operator");
  if (image === undefined) throw new Error("there is no image of the operator");
  const shipped = await mkdtemp(join(tmpdir(), "baton-operator-"));
  try {
    await bundle(image.entry, image.packages, shipped);
    await work(join(shipped, "main.js"));
  } finally {
    await rm(shipped, { recursive: true });
  }
}
