import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { processesOf } from "./scratch.ts";
import { waitFor } from "./wait.ts";

// Whether anything is left of tests that are interrupted: folders in the temporary folder, and processes.

const REPOSITORY = join(import.meta.dirname, "../..");
const SCRATCH = join(import.meta.dirname, "scratch.ts");
let folder: string;
const started: ChildProcess[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "baton-scratch-"));
});
afterEach(async () => {
  for (const child of started.splice(0)) child.kill("SIGKILL");
  for (const name of readdirSync(folder)) for (const pid of processesOf(name)) process.kill(pid, "SIGKILL");
  await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
});

/** What a test may leave: folders, a process of its own session that ignores signals, and one that is tied to nobody. */
const STUBBORN = `for (const s of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(s, () => {}); setInterval(() => {}, 1e6);
require("fs").mkdtempSync(require("path").join(require("os").tmpdir(), "baton-brokers-")); console.log("up");`;
const MESS = `
import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
mkdtempSync(join(tmpdir(), "baton-brokers-"));
const child = spawn(process.execPath, ["-e", ${JSON.stringify(STUBBORN)}], { detached: true, stdio: ["ignore", "pipe", "ignore"] });
await new Promise((resolve) => child.stdout.once("data", resolve));
`;

/** Starts a process in a group of its own, as a terminal does; resolves when it says that it is up. */
async function start(command: string, args: readonly string[]): Promise<ChildProcess> {
  const { BATON_TEST_RUN: _, ...env } = process.env;
  const child = spawn(command, args, {
    ...{ cwd: REPOSITORY, detached: true, stdio: ["ignore", "pipe", "ignore"] },
    env: { ...env, TMPDIR: folder },
  });
  started.push(child);
  if (child.stdout === null) throw new Error("no output");
  const lines = createInterface({ input: child.stdout });
  await new Promise<void>((resolve, reject) => {
    lines.on("line", (line) => line.includes("MESS IS MADE") && resolve());
    child.once("exit", (code) => reject(new Error(`ended with ${code}`)));
  });
  return child;
}

const own = () => start(process.execPath, ["--input-type=module-typescript", "-e", OWN]);
const OWN = `
import { ownRun } from ${JSON.stringify(SCRATCH)};
ownRun();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(1));
${MESS}
console.log("MESS IS MADE");
setInterval(() => {}, 1e6);`;

const runs = () => readdirSync(folder).filter((name) => name.startsWith("baton-"));
const ended = (child: ChildProcess) => new Promise((resolve) => child.once("exit", resolve));

describe("what tests leave", { timeout: 60_000 }, () => {
  it("is there while they run", async () => {
    await own();
    const [run = ""] = runs();
    expect(readdirSync(join(folder, run))).toHaveLength(2);
    expect(processesOf(run)).toHaveLength(1);
  });

  it.each<[string, (child: ChildProcess) => void]>([
    ["Ctrl-C, which reaches the whole group", (child) => process.kill(-(child.pid ?? 0), "SIGINT")],
    ["SIGTERM, which reaches the owner", (child) => child.kill("SIGTERM")],
    ["a closed terminal", (child) => process.kill(-(child.pid ?? 0), "SIGHUP")],
    [
      "two Ctrl-C",
      (child) => {
        process.kill(-(child.pid ?? 0), "SIGINT");
        process.kill(-(child.pid ?? 0), "SIGINT");
      },
    ],
  ])("is gone after %s", async (_, interrupt) => {
    const child = await own();
    const [run = ""] = runs();
    const over = ended(child);
    interrupt(child);
    await over;
    await waitFor("the end of all processes", async () => processesOf(run).length === 0);
    expect(runs()).toEqual([]);
  });

  it("of a run that was killed is ended by the next, and nothing of one that lives", async () => {
    const killed = await own();
    const [dead = ""] = runs();
    const over = ended(killed);
    killed.kill("SIGKILL");
    await over;
    expect(processesOf(dead)).toHaveLength(1);
    await writeFile(join(folder, "baton-test-somebody"), "not ours");
    const alive = await own();
    const owner = String(alive.pid);
    expect(runs().filter((name) => name.includes(`-${owner}-`))).toHaveLength(1);
    await waitFor("the end of what was killed", async () => processesOf(dead).length === 0);
    expect(existsSync(join(folder, dead))).toBe(false);
    // A third finds the second alive.
    const [living = ""] = runs().filter((name) => name.includes(`-${owner}-`));
    await own();
    expect(processesOf(living)).toHaveLength(1);
    expect(existsSync(join(folder, "baton-test-somebody"))).toBe(true);
  });
});

describe("vitest", { timeout: 60_000 }, () => {
  it("leaves nothing after Ctrl-C", async () => {
    const project = join(folder, "project");
    await mkdir(project);
    await writeFile(
      join(project, "vitest.config.ts"),
      `import { ownRun } from ${JSON.stringify(SCRATCH)}; ownRun(); export default {};`,
    );
    await writeFile(
      join(project, "a.test.ts"),
      `import { writeSync } from "node:fs";
import { it } from "vitest";
it("makes a mess", async () => {
${MESS.replaceAll(/^import .*$/gm, (line) => line.replace(/import \{ (.*) \} from (".*");/, "const { $1 } = await import($2);"))}
writeSync(1, "MESS IS MADE\\n");
await new Promise(() => {});
}, 1e6);`,
    );
    const vitest = join(REPOSITORY, "node_modules/vitest/vitest.mjs");
    const child = await start(process.execPath, [vitest, "run", "--root", project]);
    const [run = ""] = runs().filter((name) => name.startsWith("baton-test-"));
    expect(readdirSync(join(folder, run)).filter((name) => name.startsWith("baton-brokers-"))).toHaveLength(
      2,
    );
    const over = ended(child);
    process.kill(-(child.pid ?? 0), "SIGINT");
    await over;
    await waitFor("the end of all processes", async () => processesOf(run).length === 0);
    expect(runs()).toEqual([]);
  });
});
