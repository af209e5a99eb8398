import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { Command } from "commander";
import { type Document, isScalar, parseDocument } from "yaml";
import { UsageError } from "./common.ts";
import { noSuch } from "./names.ts";

// What runs in one environment is to run in the next one: a commit on a branch, for a pull request. Nothing but digests, and
// the version and address that belong to a model's, is changed.

const run = promisify(execFile);

export interface Moved {
  /** Path in cluster.yaml. */
  readonly field: string;
  readonly from: string;
  readonly to: string;
}

const MODEL = ["version", "uri", "digest"].map((field) => ["signalModel", "model", field]);
const NOTHING_YET = `sha256:${"0".repeat(64)}`;

/**
 * The target's cluster.yaml with the source's digests, its comments and order as they were, and what was changed. Throws
 * UsageError where the source has released nothing yet.
 */
export function promoted(
  source: string,
  target: string,
): { readonly text: string; readonly moved: readonly Moved[] } {
  const [from, to] = [parse(source), parse(target)];
  const images = to.getIn(["images", "digests"]) as
    | { readonly items?: readonly { readonly key: unknown }[] }
    | undefined;
  const names = (images?.items ?? [])
    .map(({ key }) => String(key))
    .filter((name) => from.hasIn(["images", "digests", name]));
  const edits = [...names.map((name) => ["images", "digests", name]), ...MODEL].flatMap((path) => {
    const [value, old] = [from.getIn(path), to.getIn(path, true)];
    const field = path.join(".");
    if (value === NOTHING_YET) throw new UsageError(`${field}: nothing has been released there yet`);
    if (typeof value !== "string" || !isScalar(old) || !old.range)
      throw new UsageError(`${field} is missing`);
    if (old.value === value) return [];
    return [{ field, from: String(old.value), to: value, range: old.range }];
  });
  let text = target;
  for (const { range, to: value } of edits.toSorted((a, b) => b.range[0] - a.range[0])) {
    text = text.slice(0, range[0]) + value + text.slice(range[1]);
  }
  return { text, moved: edits.map(({ field, from: was, to: is }) => ({ field, from: was, to: is })) };
}

function parse(text: string): Document.Parsed {
  const document = parseDocument(text);
  const [error] = document.errors;
  if (error !== undefined) throw new UsageError(error.message);
  return document;
}

interface Options {
  readonly push?: boolean;
  readonly json?: boolean;
}

/** `baton promote-env`: run in a clone of the repository. */
export function promoteEnvCommand(): Command {
  return new Command("promote-env")
    .argument("<from>", "the environment that has what is to be promoted, such as dev")
    .argument("<to>", "the one that is to get it, such as staging")
    .description("make a branch on which one environment has the digests of another, for a pull request")
    .option("--push", "push the branch to origin")
    .option("--json", "print JSON")
    .addHelpText("after", "\nWhat merges the branch approves the promotion: Argo CD syncs main only.")
    .action(async (from: string, to: string, options: Options) => {
      const root = (await git(process.cwd(), "rev-parse", "--show-toplevel").catch(notInClone)).trim();
      const result = await promote(root, from, to, options.push === true);
      if (options.json) console.log(JSON.stringify({ from, to, ...result }));
      else if (result.branch === undefined) console.log(`${to} has everything that ${from} has`);
      else {
        for (const { field, from: was, to: is } of result.moved) console.log(`${field}: ${was} → ${is}`);
        const next = options.push ? "open a pull request for it" : `git push -u origin ${result.branch}`;
        console.log(`branch ${result.branch}; next: ${next}`);
      }
    });
}

function notInClone(error: Error): never {
  throw new UsageError(`run this in a clone of the repository with the environments: ${error.message}`);
}

async function promote(root: string, from: string, to: string, push: boolean) {
  if (from === to) throw new UsageError(`${from} is to be promoted to itself`);
  const file = (environment: string) => join(root, "clusters", environment, "cluster.yaml");
  for (const environment of [from, to]) {
    const known = await environments(root);
    if (!known.includes(environment)) throw noSuch("environment", environment, known);
  }
  if ((await git(root, "status", "--porcelain")).trim() !== "") {
    throw new UsageError("there are changes that are not committed: commit or stash them first");
  }
  const { text, moved } = promoted(await readFile(file(from), "utf8"), await readFile(file(to), "utf8"));
  if (moved.length === 0) return { branch: undefined, moved };
  const before = (await git(root, "rev-parse", "--abbrev-ref", "HEAD")).trim();
  const commit = (await git(root, "rev-parse", "--short", "HEAD")).trim();
  const branch = `promote/${from}-to-${to}-${commit}`;
  await git(root, "switch", "--quiet", "--create", branch);
  try {
    await writeFile(file(to), text);
    await run("npm", ["run", "--silent", "synth"], { cwd: root });
    await git(root, "add", "--", `clusters/${to}`);
    const lines = moved.map(({ field, to: is }) => `${field}: ${is}`);
    const message = [`Promote ${from} to ${to}`, "", ...lines, "", `Baton-Promoted-From: ${from}`, ""].join(
      "\n",
    );
    await git(root, "commit", "--quiet", "--message", message);
    if (push) await git(root, "push", "--quiet", "--set-upstream", "origin", branch);
  } catch (error) {
    // As it was found.
    await git(root, "reset", "--quiet", "--hard").catch(() => {});
    await git(root, "switch", "--quiet", before).catch(() => {});
    await git(root, "branch", "--quiet", "-D", branch).catch(() => {});
    throw error;
  }
  // What else was not rendered is not the promotion's.
  await git(root, "reset", "--quiet", "--hard");
  await git(root, "switch", "--quiet", before);
  return { branch, moved };
}

/** Those that are described. */
async function environments(root: string): Promise<readonly string[]> {
  const folders = await readdir(join(root, "clusters"), { withFileTypes: true }).catch(() => []);
  return folders
    .filter((entry) => entry.isDirectory() && existsSync(join(root, "clusters", entry.name, "cluster.yaml")))
    .map(({ name }) => name);
}

async function git(cwd: string, ...args: string[]): Promise<string> {
  try {
    return (await run("git", args, { cwd })).stdout;
  } catch (error) {
    const { stderr, message } = error as { readonly stderr?: string; readonly message: string };
    throw new UsageError(`git ${args[0]}: ${stderr?.trim() || message}`);
  }
}
