import { spawn } from "node:child_process";
import { mkdir, readFile, rm } from "node:fs/promises";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import * as z from "zod";
import { messageOf } from "#clusters/local/errors.ts";
import { EXIT_INTERRUPTED, interruption } from "#clusters/local/interrupt.ts";
import { resetCluster } from "#clusters/local/lifecycle.ts";
import { tied } from "#clusters/local/supervisor/supervise.ts";
import { ensureToolchain } from "#clusters/local/toolchain/index.ts";
import { beginRun, endProcesses, removeFolder } from "./support/scratch.ts";

// Runs the test suites against the real components, after fetching and building what they need:
//   npm test                        everything; in CI also the story of GitOps, and faults that take longer
//   npm test -- --project unit      one suite (unit, integration, faults, operator-faults, gitops, kind)
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
  console.log(`npm test -- [--project unit|integration|faults|operator-faults|gitops|kind]... [part of a file's name]...
npm run test:gitops, which is part of it in CI
npm run test:faults -- [broker|cluster|halt|handover|operator|outage|protections|redis|signal-model]...

Tests that draw by chance print their seed; SEED=... repeats one. BUDGET=1 fails a run of more than five minutes.`);
  process.exit(0);
}

const root = join(import.meta.dirname, "..");
/** Of this process alone: another one may be testing beside it. */
const results = join(root, ".baton", `test-results-${process.pid}.json`);
/** The clusters that tests make, by name. */
const CLUSTERS = ["test", "fire", "gitops", "faults", "faults-b", "faults-port"];
const resultSchema = z.object({
  numPassedTests: z.int(),
  numFailedTests: z.int(),
  testResults: z.array(
    z.object({
      name: z.string(),
      message: z.string(),
      startTime: z.number(),
      endTime: z.number(),
      assertionResults: z.array(
        z.object({
          status: z.string(),
          fullName: z.string(),
          failureMessages: z.array(z.string()).nullish(),
        }),
      ),
    }),
  ),
});
/** What a failure says at the end again is no longer than this. */
const MAX_FAILURE = 3_000;
/** A run on a warm machine. With BUDGET=1 a longer one fails: a budget that nobody guards is lost. */
const BUDGET_MS = 300_000;
const SLOWEST = 10;
const startedAt = Date.now();

const stop = interruption();
const run = beginRun();
try {
  await ensureToolchain({ progress: (line) => console.error(line), signal: stop });
} catch (error) {
  console.error(messageOf(error));
  await tidyUp();
  process.exit(stop.aborted ? EXIT_INTERRUPTED : 1);
}
await mkdir(join(root, ".baton"), { recursive: true });
// Everything that does harm, at its full length.
const filters = values.long
  ? ["tests/faults", "tests/simulation"].flatMap((folder) =>
      positionals.length === 0 ? [folder] : positionals.map((name) => `${folder}/${name}`),
    )
  : positionals;
const long = values.long ? { FAULTS: "full", EXPLORE: "full" } : {};

/** What tests that were interrupted did not come to; nothing is left of the others. */
async function tidyUp(): Promise<void> {
  if (stop.aborted) for (const name of CLUSTERS) await resetCluster(name);
  endProcesses(run.name);
  removeFolder(run);
}

interface Round {
  readonly code: number;
  readonly passed: number;
  readonly failed: number;
  readonly failures: readonly string[];
  readonly files: readonly { readonly name: string; readonly ms: number }[];
}

/** Runs some of the suites; resolves with the exit code, what was counted and what the failures said. */
async function round(projects: readonly string[]): Promise<Round> {
  const wanted = projects.filter((name) => values.project.length === 0 || values.project.includes(name));
  if (wanted.length === 0 || stop.aborted) return { code: 0, passed: 0, failed: 0, failures: [], files: [] };
  const output = ["--reporter=default", "--reporter=json", `--outputFile.json=${results}`];
  const chosen = wanted.flatMap((name) => ["--project", name]);
  const args = ["run", "--passWithNoTests", ...output, ...chosen, ...filters];
  const child = spawn(...tied("vitest", args), {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, ...long },
  });
  const end = () => child.kill("SIGINT");
  stop.addEventListener("abort", end, { once: true });
  const code = await new Promise<number>((resolve) => child.on("close", (status) => resolve(status ?? 1)));
  stop.removeEventListener("abort", end);
  const text = await readFile(results, "utf8").catch(() => "{}");
  await rm(results, { force: true });
  const { data } = resultSchema.safeParse(JSON.parse(text));
  const failures = (data?.testResults ?? []).flatMap(({ name, message, assertionResults }) => {
    const failed = assertionResults.filter(({ status }) => status === "failed");
    const texts = failed.map((one) => `${one.fullName}\n${one.failureMessages?.join("\n") ?? ""}`);
    // A file that could not be loaded or set up has a message of its own.
    return [...texts, ...(message === "" ? [] : [message])].map(
      (text) => `${relative(root, name)}: ${text.slice(0, MAX_FAILURE)}`,
    );
  });
  // What failed outside of a test, such as in loading a file, is counted as one.
  const failed = data?.numFailedTests || (code === 0 ? 0 : 1);
  const files = (data?.testResults ?? []).map(({ name, startTime, endTime }) => ({
    name: relative(root, name),
    ms: endTime - startTime,
  }));
  return { code, passed: data?.numPassedTests ?? 0, failed, failures, files };
}

/** Says where the time went; true where there was too much of it. */
function isOverBudget(): boolean {
  const files = rounds.flatMap((one) => one.files);
  if (files.length > SLOWEST) {
    console.log("\nThe slowest files, several at a time:");
    for (const { name, ms } of files.toSorted((a, b) => b.ms - a.ms).slice(0, SLOWEST))
      console.log(`  ${(ms / 1000).toFixed(1).padStart(6)} s  ${name}`);
  }
  const ms = Date.now() - startedAt;
  const isOver = process.env["BUDGET"] === "1" && ms > BUDGET_MS;
  if (isOver)
    console.log(`\nFAILED it took ${Math.round(ms / 1000)} s, of ${BUDGET_MS / 1000} s that it may`);
  return isOver;
}

// Clusters of their own must not take the cores from the others while they have nothing to do.
const rounds = [
  await round(["unit", "integration", "faults"]),
  await round(["operator-faults"]),
  // A story of minutes, most of them Argo CD's: in CI, and where it is asked for.
  ...(process.env["CI"] !== undefined || values.project.includes("gitops") ? [await round(["gitops"])] : []),
  // Needs a Docker engine: only where it is asked for.
  ...(values.project.includes("kind") ? [await round(["kind"])] : []),
];
await tidyUp();
const isLate = isOverBudget();
// Much else may have been printed since.
for (const failure of rounds.flatMap(({ failures }) => failures)) console.log(`\nFAILED ${failure}`);
const sum = (count: "passed" | "failed") => rounds.reduce((all, one) => all + one[count], 0);
console.log(`\n${sum("passed")} passed, ${sum("failed")} failed`);
process.exitCode = stop.aborted
  ? EXIT_INTERRUPTED
  : (rounds.find(({ code }) => code !== 0)?.code ?? (sum("passed") > 0 && !isLate ? 0 : 1));
