import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";

const root = mkdtempSync(join(tmpdir(), "baton-clusters-"));
mkdirSync(join(root, "mine"));
writeFileSync(join(root, "mine", "cluster.json"), JSON.stringify({ name: "mine", portBase: 26_000 }));
afterAll(() => rmSync(root, { recursive: true, force: true }));

// No more of them than there are ways to fail: each is a process.
it.each([
  [["--name", "mein", "reset"], 1, "there is no cluster mein: run `cluster up`; there is mine"],
  [["--name", "mein", "logs"], 1, "there is no cluster mein: run `cluster up`; there is mine"],
  [["--name", "../x", "reset"], 1, 'cluster name "../x"'],
  [["down"], 0, "cluster local was not running"],
  [["frobnicate"], 2, "unknown command 'frobnicate'"],
])("cluster %j ends with %i", { timeout: 30_000 }, (args, code, sentence) => {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(import.meta.dirname, "cli.ts"), ...args],
    {
      encoding: "utf8",
      env: { ...process.env, BATON_STATE: root },
    },
  );
  expect(stdout + stderr).toContain(sentence);
  expect(stdout + stderr).not.toContain("    at ");
  expect(status).toBe(code);
});
