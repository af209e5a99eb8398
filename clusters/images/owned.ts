import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LocalError } from "../local/errors.ts";
import { exec } from "../local/toolchain/exec.ts";

/** Whom programs in images run as. */
export const USER = 10_001;

/** Writes an archive of the folders of an image that its user writes to: /tmp, and where its data are. */
export async function packOwned(path: string, data?: string): Promise<void> {
  const at = await mkdtemp(join(tmpdir(), "baton-owned-"));
  try {
    await add("--create", "tmp", "--owner=0", "--group=0", "--mode=1777");
    if (data !== undefined)
      await add("--append", data.slice(1), `--owner=${USER}`, `--group=${USER}`, "--mode=0750");
  } finally {
    await rm(at, { recursive: true, force: true });
  }

  async function add(how: string, folder: string, ...options: readonly string[]): Promise<void> {
    await mkdir(join(at, folder), { recursive: true });
    const same = ["--numeric-owner", "--mtime=@0", "--no-recursion"];
    const result = await exec("tar", [
      how,
      `--file=${path}`,
      `--directory=${at}`,
      ...same,
      ...options,
      folder,
    ]);
    if (result.code !== 0) throw new LocalError("BUILD_FAILED", `tar: ${result.tail.join("\n")}`);
  }
}
