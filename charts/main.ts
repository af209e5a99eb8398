import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { leftOver, renderManifests } from "./render.ts";

// Renders every environment's manifests into the repository: `npm run synth`, `cdk8s synth`, and `npm run generate` among
// other files. What is no longer rendered goes.
const root = join(import.meta.dirname, "..");
try {
  const rendered = renderManifests();
  for (const [path, text] of rendered) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
    console.log(path);
  }
  for (const path of leftOver(rendered)) {
    rmSync(join(root, path));
    console.log(`${path} deleted`);
  }
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
