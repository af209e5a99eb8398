import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { promoted } from "./promote-env.ts";

const ROOT = join(import.meta.dirname, "../..");
const digest = (digit: string) => `sha256:${digit.repeat(64)}`;
const read = (environment: string) => readFile(join(ROOT, `clusters/${environment}/cluster.yaml`), "utf8");
const released = (text: string) => text.replaceAll(digest("0"), digest("7"));

describe("an environment's cluster.yaml", () => {
  it("gets the other one's digests, and nothing else is touched", async () => {
    const [dev, staging] = [released(await read("dev")), await read("staging")];
    const next = dev.replaceAll("1.0.0", "2.0.0");
    const { text, moved } = promoted(next, staging);
    expect(text).toBe(released(staging).replaceAll("1.0.0", "2.0.0"));
    expect(moved.map(({ field }) => field)).toContain("images.digests.operator");
    expect(moved.map(({ field }) => field)).not.toContain("images.digests.kafka");
    expect(promoted(next, text)).toEqual({ text, moved: [] });
  });

  it("gets nothing from one that has released nothing", async () => {
    const [dev, staging] = [await read("dev"), await read("staging")];
    expect(() => promoted(dev, staging)).toThrow(
      "images.digests.market-data: nothing has been released there yet",
    );
    expect(() => promoted("images: {}", staging)).toThrow("signalModel.model.version is missing");
  });
});

describe("baton promote-env", { timeout: 60_000 }, () => {
  let clone: string;
  const git = (...args: string[]) => spawnSync("git", args, { cwd: clone, encoding: "utf8" }).stdout.trim();
  const baton = (...args: string[]) =>
    spawnSync(process.execPath, [join(ROOT, "apps/baton/main.ts"), "promote-env", ...args], {
      cwd: clone,
      encoding: "utf8",
    });

  beforeEach(async () => {
    clone = await mkdtemp(join(tmpdir(), "baton-promote-"));
    spawnSync("git", ["clone", "--quiet", "--depth=1", `file://${ROOT}`, clone]);
    await symlink(join(ROOT, "node_modules"), join(clone, "node_modules"));
    await writeFile(join(clone, ".git/info/exclude"), "node_modules\n");
    git("config", "user.name", "A Trader");
    git("config", "user.email", "trader@example.com");
    const file = join(clone, "clusters/dev/cluster.yaml");
    await writeFile(file, released(await readFile(file, "utf8")));
    git("commit", "--quiet", "--no-verify", "--all", "--message", "Release to dev");
  });
  afterEach(() => rm(clone, { recursive: true, force: true }));

  it("makes a branch with digests and what they render to, and leaves the clone as it was", async () => {
    const before = [git("rev-parse", "HEAD"), git("rev-parse", "--abbrev-ref", "HEAD")];
    const { status, stdout, stderr } = baton("dev", "staging", "--json");
    expect([status, stderr]).toEqual([0, ""]);
    const { branch, moved } = JSON.parse(stdout);
    expect(moved.length).toBeGreaterThan(3);
    expect([git("rev-parse", "HEAD"), git("rev-parse", "--abbrev-ref", "HEAD")]).toEqual(before);
    expect(git("status", "--porcelain")).toBe("");
    const changed = git("diff", "--unified=0", `HEAD..${branch}`)
      .split("\n")
      .filter((line) => /^[+-][^+-]/.test(line));
    expect(changed.filter((line) => !line.includes("sha256:"))).toEqual([]);
    const files = git("diff", "--name-only", `HEAD..${branch}`).split("\n");
    expect(files).toContain("clusters/staging/manifests/operator.yaml");
    expect(files.every((file) => file.startsWith("clusters/staging/"))).toBe(true);
  });

  it("says what is wrong, and changes nothing", async () => {
    expect(baton("dev", "nowhere").stderr).toContain("no such environment nowhere; known: ");
    expect(baton("staging", "prod").stderr).toContain("nothing has been released there yet");
    await writeFile(join(clone, "README.md"), "changed\n");
    const { status, stderr } = baton("dev", "staging");
    expect([status, stderr]).toEqual([1, expect.stringContaining("not committed")]);
    expect(git("branch", "--list", "promote/*")).toBe("");
  });
});
