import { spawn } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { exec } from "./exec.ts";
import { installOnce } from "./install.ts";
import { candidates, TOOLS } from "./tools.ts";

let cache: string;
let folder: string;
beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), "baton-install-"));
  folder = join(cache, "toolchain", "tool-1");
});
afterEach(() => rm(cache, { recursive: true }));

const left = () => readdir(join(cache, "toolchain"));
const build = async (temporary: string) => {
  await writeFile(join(temporary, "binary"), "x");
};

describe("installOnce", () => {
  it("leaves the whole folder and nothing else", async () => {
    await installOnce(folder, build);
    expect(await left()).toEqual(["tool-1"]);
  });

  it("leaves nothing of a build that failed, and builds the next time", async () => {
    const failing = installOnce(folder, async (temporary) => {
      await build(temporary);
      throw new Error("compiler error");
    });
    await expect(failing).rejects.toThrow("compiler error");
    expect(await left()).toEqual([]);
    await installOnce(folder, build);
    expect(await left()).toEqual(["tool-1"]);
  });

  it("leaves nothing of a command that was interrupted, nor of waiting for another process", async () => {
    const stop = new AbortController();
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
    const command = installOnce(folder, async (temporary) => {
      await build(temporary);
      begin();
      const script =
        "process.on('SIGTERM', () => setTimeout(() => process.exit(0), 50)); setInterval(() => {}, 1e6)";
      await exec(process.execPath, ["-e", script], { signal: stop.signal });
    });
    await begun;
    const waiting = installOnce(folder, build, () => stop.abort(new Error("interrupted")), stop.signal);
    const ended = [command, waiting].map((one) => expect(one).rejects.toThrow("interrupted"));
    await Promise.all(ended);
    expect(await left()).toEqual([]);
  });

  it("clears up after a build that was killed, and takes over its lock", async () => {
    const script = `
      import { installOnce } from ${JSON.stringify(join(import.meta.dirname, "install.ts"))};
      await installOnce(${JSON.stringify(folder)}, async () => { console.log("building"); await new Promise(() => setInterval(() => {}, 1e6)); });`;
    const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await new Promise((resolve) => child.stdout.once("data", resolve));
    child.kill("SIGKILL");
    await new Promise((resolve) => child.once("exit", resolve));
    expect((await left()).length).toBe(2);
    await installOnce(folder, build);
    expect(await left()).toEqual(["tool-1"]);
  });

  it("builds once when several want it at the same time", async () => {
    let builds = 0;
    const slow = async (temporary: string) => {
      builds += 1;
      await sleep(50);
      await build(temporary);
    };
    await Promise.all([1, 2, 3].map(() => installOnce(folder, slow)));
    expect(builds).toBe(1);
  });
});

describe("the order of look-up", () => {
  it("is what the user named, then PATH, then the cache", () => {
    const etcd = TOOLS.find((tool) => tool.name === "etcd");
    if (etcd === undefined) throw new Error("no etcd");
    const env = { KUBEBUILDER_ASSETS: "/assets", PATH: "/a:/b" };
    expect(candidates(etcd, env, "/cache")).toEqual([
      "/assets/etcd",
      "/a/etcd",
      "/b/etcd",
      `/cache/toolchain/etcd-${etcd.version}/etcd`,
    ]);
    expect(candidates(etcd, { PATH: "" }, "/cache")).toEqual([`/cache/toolchain/etcd-${etcd.version}/etcd`]);
  });
});
