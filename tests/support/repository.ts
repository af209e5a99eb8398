import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** A bare repository, as a server of Git has it, and a clone that a person works in. */
export class Repository {
  readonly url: string;
  readonly #folder: string;

  static async create(): Promise<Repository> {
    const folder = await mkdtemp(join(tmpdir(), "baton-git-"));
    const repository = new Repository(folder);
    repository.#run(folder, ["init", "--bare", "--initial-branch=main", "origin.git"]);
    repository.#run(folder, ["clone", "--quiet", "origin.git", "work"]);
    repository.git("config", "user.name", "A Trader");
    repository.git("config", "user.email", "trader@example.com");
    repository.git("checkout", "--quiet", "-B", "main");
    return repository;
  }

  private constructor(folder: string) {
    this.#folder = folder;
    this.url = `file://${join(folder, "origin.git")}`;
  }

  /** Where a person works. */
  get work(): string {
    return join(this.#folder, "work");
  }

  /** Runs git in the clone; returns what it prints. */
  git(...args: string[]): string {
    return this.#run(this.work, args);
  }

  async write(files: ReadonlyMap<string, string>): Promise<void> {
    for (const [path, text] of files) {
      const file = join(this.work, path);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, text);
    }
  }

  /** Commits everything in the clone and pushes it; returns the commit. */
  push(message: string): string {
    this.git("add", "--all");
    this.git("commit", "--quiet", "-m", message);
    this.git("push", "--quiet", "origin", "main");
    return this.git("rev-parse", "HEAD");
  }

  async close(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }

  #run(cwd: string, args: readonly string[]): string {
    const { status, stdout, stderr } = spawnSync("git", args, { cwd, encoding: "utf8" });
    if (status !== 0) throw new Error(`git ${args.join(" ")}: ${stderr}`);
    return stdout.trim();
  }
}
