import { spawn } from "node:child_process";
import { join } from "node:path";

// Format, lint, types, generated files, architecture rules: everything that needs no running component.

const root = join(import.meta.dirname, "..");
const CHECKS: readonly (readonly [name: string, command: string, args: readonly string[]])[] = [
  ["format and lint", "biome", ["check", "--error-on-warnings", "."]],
  ["types", "tsc", []],
  ["generated files", "node", [".ci/generate.ts", "--check"]],
  ["architecture", "vitest", ["run", "--project", "unit", "tests/architecture"]],
  ["secrets", "node", [".ci/secrets.ts", "--all"]],
];

function run(
  command: string,
  args: readonly string[],
): Promise<{ readonly ok: boolean; readonly output: string }> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk) => {
        output += String(chunk);
      });
    }
    child.on("error", (error) => resolve({ ok: false, output: error.message }));
    child.on("close", (code) => resolve({ ok: code === 0, output }));
  });
}

let failed = 0;
for (const [name, command, args] of CHECKS) {
  const started = Date.now();
  const { ok, output } = await run(command, args);
  console.log(
    `${ok ? "ok    " : "FAILED"} ${name.padEnd(18)} ${((Date.now() - started) / 1000).toFixed(1)} s`,
  );
  if (ok) continue;
  failed += 1;
  console.log(output);
}
process.exitCode = failed === 0 ? 0 : 1;
