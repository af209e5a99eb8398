import { spawn } from "node:child_process";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import * as z from "zod";
import { messageOf } from "#clusters/local/errors.ts";
import { ensureToolchain } from "#clusters/local/toolchain/index.ts";

// Runs the test suites against the real components, after fetching and building what they need:
//   npm test                        everything
//   npm test -- --project unit      one suite (unit, integration, faults)
//   npm test -- bus-kafka           files whose names match
//   npm run test:faults             the long form of all that does harm
//   npm run test:faults -- operator the same of the operator alone

const { values, positionals } = parseArgs({
  options: {
    project: { type: "string", multiple: true, default: [] },
    long: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  },
  allowPositionals: true,
});
if (values.help) {
  console.log(`npm test -- [--project unit|integration|faults|operator-faults]... [part of a file's name]...
npm run test:faults -- [broker|cluster|halt|handover|operator|outage|protections|redis|signal-model]...

Tests that draw by chance print their seed; SEED=... repeats one.`);
  process.exit(0);
}

const root = join(import.meta.dirname, "..");
const results = join(root, ".baton", "test-results.json");
const resultSchema = z.object({ numPassedTests: z.int(), numFailedTests: z.int(), numTotalTests: z.int() });

try {
  await ensureToolchain({ progress: (line) => console.error(line) });
} catch (error) {
  console.error(messageOf(error));
  process.exit(1);
}
await mkdir(join(root, ".baton"), { recursive: true });
// Everything that does harm, at its full length.
const filters = values.long
  ? ["tests/faults", "tests/simulation"].flatMap((folder) =>
      positionals.length === 0 ? [folder] : positionals.map((name) => `${folder}/${name}`),
    )
  : positionals;
const long = values.long ? { FAULTS: "full", EXPLORE: "full" } : {};
const args = ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${results}`];
for (const project of values.project) args.push("--project", project);
const child = spawn("vitest", [...args, ...filters], {
  cwd: root,
  stdio: "inherit",
  env: { ...process.env, ...long, NODE_OPTIONS: "--disable-warning=TimeoutNegativeWarning" },
});
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
const code = await new Promise<number>((resolve) => child.on("close", (status) => resolve(status ?? 1)));
const text = await readFile(results, "utf8").catch(() => "{}");
const parsed = resultSchema.safeParse(JSON.parse(text));
if (parsed.success)
  console.log(`\n${parsed.data.numPassedTests} passed, ${parsed.data.numFailedTests} failed`);
process.exitCode = code === 0 && parsed.success && parsed.data.numPassedTests > 0 ? 0 : code || 1;
