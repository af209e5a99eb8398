import { chmod, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { detectIsolation, isolationWarning } from "./isolation.ts";

let base = "";
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), "baton-isolation-"));
});
afterAll(() => rm(base, { recursive: true }));

/** What the agent finds with a baton-container that answers so. */
async function found(answer: string) {
  const helper = join(base, "helper");
  await writeFile(helper, `#!/bin/sh\nread -r spec\n${answer}\n`);
  await chmod(helper, 0o755);
  const folder = await mkdtemp(join(base, "pods-"));
  try {
    return await detectIsolation({ helper, folder, repository: base, hidden: [] });
  } finally {
    // Nothing of an attempt stays.
    expect(await readdir(folder)).toEqual([]);
  }
}

describe("what sets Pods apart from the machine", () => {
  it("is the first that can be had", async () => {
    const refusal = `echo '{"kind":"failed","code":128,"message":"clone: operation not permitted"}'`;
    const answer = `case "$spec" in *user-namespaces*) echo '{"kind":"ended","code":0}';; *) ${refusal};; esac`;
    const isolation = await found(answer);
    expect(isolation).toEqual({ mode: "user-namespaces", reason: "" });
    expect(isolationWarning(isolation)).toBeUndefined();
  });

  it.each([
    [
      "clone: operation not permitted",
      `echo '{"kind":"failed","code":128,"message":"clone: operation not permitted"}'`,
    ],
    ["baton-container ended without a word", "exit 1"],
    ["baton-container ended without a word", "echo nonsense"],
  ])("is nothing where none can be had, which is told with its reason: %s", async (reason, answer) => {
    const isolation = await found(answer);
    expect(isolation.mode).toBe("none");
    const warning = isolationWarning(isolation);
    expect(warning).toContain(reason);
    expect(warning).toMatch(/not isolated.*start the cluster as root, or allow user namespaces/);
  });

  it("is not found where the users of Pods cannot read the checkout, which is told with what to do", async () => {
    await expect(found(`echo '{"kind":"ended","code":1}'`)).rejects.toMatchObject({
      code: "PATH_NOT_READABLE",
      message: expect.stringContaining(`chmod -R go+rX ${base}`),
    });
  });
});
