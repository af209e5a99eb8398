import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { leftOver, renderManifests } from "#charts/render.ts";
import { CONTRACTS } from "#runtime/contracts/all.ts";
import { jsonSchema } from "#runtime/contracts/contract.ts";
import { referencePages } from "./reference.ts";

// Writes every generated file that is committed; with --check writes nothing and fails when one is out of date.

const root = join(import.meta.dirname, "..");

function generated(): Map<string, string> {
  const files = new Map<string, string>();
  for (const contract of CONTRACTS) {
    const text = `${JSON.stringify(jsonSchema(contract), null, 2)}\n`;
    files.set(`runtime/contracts/schemas/${contract.name}.v${contract.version}.json`, text);
  }
  for (const [path, text] of renderManifests()) files.set(path, text);
  for (const [path, text] of referencePages()) files.set(path, text);
  return files;
}

const check = process.argv.includes("--check");
const stale: string[] = [];
const files = generated();
for (const [path, text] of files) {
  const file = join(root, path);
  let now: string | undefined;
  try {
    now = readFileSync(file, "utf8");
  } catch {
    now = undefined;
  }
  if (now === text) continue;
  stale.push(path);
  if (check) continue;
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}
for (const path of leftOver(files)) {
  stale.push(path);
  if (!check) rmSync(join(root, path));
}
if (check && stale.length > 0) {
  console.error(`out of date: ${stale.join(", ")}; run: npm run generate`);
  process.exitCode = 1;
} else {
  console.log(
    check ? "generated files are up to date" : `written: ${stale.join(", ") || "nothing, all up to date"}`,
  );
}
