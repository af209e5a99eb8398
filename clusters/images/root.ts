import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, copyFile, lstat, mkdir, open, readdir, readlink, realpath, symlink } from "node:fs/promises";
import { basename, dirname, join, relative, resolve } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

const PARTS_OF_LIBC = ["libpthread.so.0", "libdl.so.2", "librt.so.1", "libm.so.6"];

/** Gathers files of this machine below a folder that becomes the root of an image. */
export class Root {
  /** Every file of this machine that was taken, for the bill of materials. */
  readonly taken = new Set<string>();
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Copies a file or a folder, and the libraries of every program in it. Links that lead out become what they lead to. */
  async add(from: string, to = from): Promise<void> {
    await this.#copy(from, to, { from, to });
  }

  async link(path: string, target: string): Promise<void> {
    const at = await this.#place(path);
    await symlink(target, at);
  }

  async #copy(from: string, to: string, top: { readonly from: string; readonly to: string }): Promise<void> {
    const stat = await lstat(from);
    if (stat.isSymbolicLink()) {
      const target = resolve(dirname(from), await readlink(from));
      // Some lead to what a package has not installed.
      if (!existsSync(target)) return;
      const inside = target.startsWith(`${top.from}/`);
      if (!inside) return this.#copy(await realpath(from), to, top);
      const at = join(top.to, relative(top.from, target));
      return this.link(to, relative(dirname(to), at));
    }
    if (stat.isDirectory()) {
      for (const name of await readdir(from)) await this.#copy(join(from, name), join(to, name), top);
      return;
    }
    if (!stat.isFile()) return;
    const at = await this.#place(to);
    await copyFile(from, at);
    await chmod(at, stat.mode & 0o111 ? 0o755 : 0o644);
    this.taken.add(from);
    if (await isElf(from)) await this.#libraries(from);
  }

  /** What a program, or a library, of this machine is linked with. */
  async #libraries(program: string): Promise<void> {
    // Fails for a program that needs none.
    const { stdout } = await run("ldd", [program]).catch(() => ({ stdout: "" }));
    for (const [, path] of stdout.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm)) {
      if (path === undefined) continue;
      await this.#library(path);
      // Nobody sees which of these an extension wants that is loaded later, as Kafka's compressors are.
      const beside = basename(path) === "libc.so.6" ? PARTS_OF_LIBC : [];
      for (const name of beside) await this.#library(join(dirname(path), name));
    }
  }

  async #library(path: string): Promise<void> {
    if (existsSync(join(this.#folder, path)) || !existsSync(path)) return;
    const real = await realpath(path);
    await this.#copy(real, path, { from: real, to: path });
  }

  /** Where a path of the image is here, with the folder that it is in. */
  async #place(path: string): Promise<string> {
    const at = join(this.#folder, path);
    await mkdir(dirname(at), { recursive: true });
    return at;
  }
}

async function isElf(path: string): Promise<boolean> {
  const file = await open(path);
  try {
    const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 0);
    return buffer.toString("latin1") === "\x7fELF";
  } finally {
    await file.close();
  }
}
