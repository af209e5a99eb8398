import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { type Packed, packCli } from "#clusters/images/package.ts";
import { REPOSITORY } from "#clusters/local/state.ts";
import { ensureToolchain, toolPath } from "#clusters/local/toolchain/index.ts";

// The command line as a package: it is installed without a network, and works without the repository.

const run = promisify(execFile);
let folder: string;
let packed: Packed;
let PATH: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "baton-installed-"));
  packed = await packCli(folder);
  await npm("install", "--global", packed.path);
  const kubectl = toolPath(await ensureToolchain({ progress: () => {} }), "kubectl");
  PATH = [join(folder, "bin"), dirname(process.execPath), dirname(kubectl), process.env["PATH"]].join(
    delimiter,
  );
}, 60_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

/** npm with a prefix and a cache of its own, and no way out. */
function npm(...args: readonly string[]) {
  const env = { ...process.env, npm_config_prefix: folder, npm_config_cache: join(folder, "cache") };
  return run("npm", [...args, "--offline", "--no-audit", "--no-fund"], { cwd: folder, env });
}

function installed(command: string, ...args: readonly string[]) {
  const KUBECONFIG = join(inject("cluster").folder, "pki", "admin.kubeconfig");
  return run(command, args, { cwd: folder, env: { PATH, HOME: folder, KUBECONFIG } });
}

describe("the package", () => {
  it("is small, and says what it is", async () => {
    expect(packed.bytes).toBeLessThan(1_000_000);
    expect(await readFile(`${packed.path}.sha256`, "utf8")).toBe(
      `${packed.sha256}  baton-${packed.version}.tgz\n`,
    );
    expect((await installed("baton", "--version")).stdout).toBe(`${packed.version}\n`);
  });

  it("is baton, and kubectl baton", async () => {
    expect((await installed("baton", "--help")).stdout).toContain("Usage: baton");
    expect((await installed("kubectl", "baton", "--help")).stdout).toContain("Usage: baton");
  });

  it("works: with files, and with a cluster", async () => {
    const manifest = join(REPOSITORY, "clusters/dev/manifests/models/momentum.yaml");
    expect((await installed("baton", "lint", manifest)).stdout).toBe("nothing wrong\n");
    const { stdout } = await installed("kubectl", "baton", "get", "-n", "default");
    expect(stdout).toBe("no ModelDeployment in default\n");
    await expect(installed("baton", "get", "-n", "defaul")).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringContaining("did you mean default?"),
    });
  });
});

describe("the repository", () => {
  it("is refused as a package, in a sentence", async () => {
    const copy = join(folder, "copy");
    // What npm packs of it: all but the lock file.
    for (const path of ["package.json", ".ci", "apps/baton"]) {
      await mkdir(dirname(join(copy, path)), { recursive: true });
      await cp(join(REPOSITORY, path), join(copy, path), { recursive: true });
    }
    const refusal = { code: 1, stderr: expect.stringContaining("npm run package") };
    await expect(run(process.execPath, [join(copy, ".ci/refuse-install.mjs")])).rejects.toMatchObject(
      refusal,
    );
    await expect(installed(join(copy, "apps/baton/bin/baton"), "--help")).rejects.toMatchObject(refusal);
  });

  it("works where a clone is linked", async () => {
    await npm("uninstall", "--global", "baton");
    await npm("install", "--global", REPOSITORY);
    expect((await installed("baton", "--version")).stdout).toBe(`${packed.version}\n`);
  });
});
