import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { renderManifests } from "./render.ts";

// Renders every cluster's manifests into the repository; `cdk8s synth` and `npm run generate` do the same.
const root = join(import.meta.dirname, "..");
for (const [path, text] of renderManifests()) {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
  console.log(path);
}
