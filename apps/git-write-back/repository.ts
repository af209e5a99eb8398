import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { replaceModel, type Written, writtenModel } from "./edit.ts";
import { branchOf, commitMessage, type Rollback } from "./plan.ts";

// A clone in which a rollback is committed. Nothing is ever forced: whoever pushed first is built upon.

const run = promisify(execFile);
const ATTEMPTS = 5;
const SETTLE_MS = 500;
/** A server that does not answer must not hold the service up. */
const GIT_MS = 60_000;
const OUTPUT_BYTES = 32 * 1024 * 1024;

export interface RepositoryOptions {
  readonly url: string;
  readonly branch: string;
  /** Folder of the environment in the repository. */
  readonly path: string;
  /** Straight to the branch; or to one of its own, for a person to merge. */
  readonly mode: "push" | "branch";
  /** In the form of git-credential-store. */
  readonly credentialsFile?: string;
  /** A private key for ssh. */
  readonly sshKeyFile?: string;
  /** A private key of ssh's form, by which commits are signed. */
  readonly signingKeyFile?: string;
}

export type Result =
  /** `branch` has it now, in `commit`. */
  | { readonly kind: "written"; readonly branch: string; readonly commit: string }
  /** Git does not name it any more, or its own branch is there. */
  | { readonly kind: "there" }
  /** The stable revision's model was never written there. */
  | { readonly kind: "unknown" };

export class GitError extends Error {
  constructor(command: string, message: string) {
    super(`git ${command}: ${message}`);
    this.name = "GitError";
  }
}

export class Repository {
  readonly #options: RepositoryOptions;
  readonly #folder: string;

  static async clone(options: RepositoryOptions): Promise<Repository> {
    const repository = new Repository(options, await mkdtemp(join(tmpdir(), "baton-write-back-")));
    try {
      await repository.#git("clone", "--quiet", "--no-checkout", options.url, repository.#folder);
    } catch (error) {
      await repository.close();
      throw error;
    }
    return repository;
  }

  private constructor(options: RepositoryOptions, folder: string) {
    this.#options = options;
    this.#folder = folder;
  }

  /** Writes a rollback back, once. Rejects with GitError, without a change anywhere, where Git or its server fails. */
  async writeBack(rollback: Rollback, offsets: readonly string[]): Promise<Result> {
    const { branch, mode } = this.#options;
    const own = branchOf(rollback);
    /** Where the branch was when it last took no push. */
    let refusedAt: string | undefined;
    for (let attempt = 1; ; attempt++) {
      await this.#git("fetch", "--quiet", "--prune", "origin", "+refs/heads/*:refs/remotes/origin/*");
      if (await this.#has(`refs/remotes/origin/${own}`)) return { kind: "there" };
      await this.#git("checkout", "--quiet", "--force", "-B", "write-back", `origin/${branch}`);
      const head = await this.#git("rev-parse", "HEAD");
      const edits = await this.#edits(rollback);
      if (edits === undefined) return { kind: "there" };
      if (edits.size === 0) return { kind: "unknown" };
      for (const [file, text] of edits) await writeFile(join(this.#folder, file), text);
      await this.#git("add", "--", ...edits.keys());
      await this.#git("commit", "--quiet", "--message", commitMessage(rollback, offsets));
      const commit = await this.#git("rev-parse", "HEAD");
      // A branch that takes no pushes, or moves all the time, gets one beside it.
      const to = mode === "push" && attempt < ATTEMPTS && refusedAt !== head ? branch : own;
      try {
        await this.#git("push", "--quiet", "origin", `HEAD:refs/heads/${to}`);
        return { kind: "written", branch: to, commit };
      } catch (error) {
        if (to === own) throw error;
        refusedAt = head;
        // Whoever pushes at this moment is done then: servers have many sentences for that.
        await sleep(SETTLE_MS);
      }
    }
  }

  async close(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** The files with the stable revision's model; undefined when none names the other one. */
  async #edits({ name, bad, good }: Rollback): Promise<Map<string, string> | undefined> {
    const { path } = this.#options;
    const found = await this.#git(
      "grep",
      "--name-only",
      "--fixed-strings",
      bad.digest,
      "HEAD",
      "--",
      path,
    ).catch(() => "");
    const files = found.split("\n").filter((file) => /\.ya?ml$/.test(file));
    const edits = new Map<string, string>();
    let named = false;
    for (const entry of files) {
      const file = entry.slice("HEAD:".length);
      const text = await readFile(join(this.#folder, file), "utf8");
      if (writtenModel(text, name, bad.digest) === undefined) continue;
      named = true;
      const before = await this.#lastWritten(file, name, good.digest);
      const edited = before === undefined ? undefined : replaceModel(text, name, bad.digest, before);
      if (edited !== undefined) edits.set(file, edited);
    }
    return named ? edits : undefined;
  }

  /** How a model was written in a file when it was there last. */
  async #lastWritten(file: string, name: string, digest: string): Promise<Written | undefined> {
    const commits = await this.#git("log", "--format=%H", `-S${digest}`, "--", file);
    for (const commit of commits.split("\n").filter((hash) => hash !== "")) {
      for (const revision of [`${commit}^`, commit]) {
        const text = await this.#git("show", `${revision}:${file}`).catch(() => "");
        const written = writtenModel(text, name, digest);
        if (written !== undefined) return written;
      }
    }
    return undefined;
  }

  async #has(ref: string): Promise<boolean> {
    return this.#git("rev-parse", "--verify", "--quiet", ref).then(
      () => true,
      () => false,
    );
  }

  async #git(...args: string[]): Promise<string> {
    const { credentialsFile, sshKeyFile, signingKeyFile } = this.#options;
    const settings = {
      "user.name": "Baton",
      "user.email": "baton@localhost",
      ...(credentialsFile === undefined ? {} : { "credential.helper": `store --file=${credentialsFile}` }),
      ...(signingKeyFile === undefined
        ? {}
        : { "gpg.format": "ssh", "user.signingKey": signingKeyFile, "commit.gpgSign": "true" }),
    };
    const configured = Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`]);
    const ssh = `ssh -i "${sshKeyFile}" -o IdentitiesOnly=yes -o BatchMode=yes`;
    try {
      const { stdout } = await run("git", [...configured, ...args], {
        cwd: args[0] === "clone" ? tmpdir() : this.#folder,
        timeout: GIT_MS,
        maxBuffer: OUTPUT_BYTES,
        env: {
          ...process.env,
          GIT_TERMINAL_PROMPT: "0",
          // Nobody's settings but these.
          GIT_CONFIG_GLOBAL: "/dev/null",
          GIT_CONFIG_SYSTEM: "/dev/null",
          ...(sshKeyFile === undefined ? {} : { GIT_SSH_COMMAND: ssh }),
        },
      });
      return args[0] === "show" ? stdout : stdout.trim();
    } catch (error) {
      const { stderr, message } = error as { readonly stderr?: string; readonly message: string };
      // An address may hold a password.
      const said = (stderr?.trim() || message).replace(/\/\/[^@\s/]+@/g, "//");
      throw new GitError(args[0] ?? "", said);
    }
  }
}
