import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { Command } from "commander";
import { difference, renderDifference } from "./diff.ts";
import { environments, renderCluster } from "./render.ts";

// npm run diff -- <environment>: what `npm run synth` would change against Git, or applying it against a live cluster.

const root = join(import.meta.dirname, "..");
const known = [...environments().keys()].join(", ");

const program = new Command("diff")
  .description(
    "What a change of charts/ or cluster.yaml does to an environment. Exit code 0: nothing, 1: something, 2: an error.",
  )
  .argument("<environment>", known)
  .option("--against <revision>", "a Git revision", "HEAD")
  .option("--live", "against the cluster that kubectl talks to, by a server-side dry run")
  .option("--context <name>", "kubectl's context, with --live")
  .option("--json", "print JSON instead of text")
  .showHelpAfterError()
  .action((environment: string, options: Options) => {
    const values = environments().get(environment);
    if (values === undefined) throw new Error(`there is no environment ${environment}: ${known}`);
    const after = [...renderCluster(values).values()];
    if (options.live) return live(after, options.context);
    const changes = difference(committed(environment, options.against), after);
    console.log(options.json ? JSON.stringify(changes, null, 2) : renderDifference(changes, environment));
    process.exitCode = changes.length === 0 ? 0 : 1;
  });

interface Options {
  readonly against: string;
  readonly live?: boolean;
  readonly context?: string;
  readonly json?: boolean;
}

/** The manifests of an environment as a Git revision has them. */
function committed(environment: string, revision: string): string[] {
  const folder = `clusters/${environment}/manifests`;
  const files = git(["ls-tree", "-r", "--name-only", revision, "--", folder]).split("\n");
  return files.filter((file) => file.endsWith(".yaml")).map((file) => git(["show", `${revision}:${file}`]));
}

function git(args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync("git", args, { cwd: root, encoding: "utf8" });
  if (status !== 0) throw new Error(`git ${args.join(" ")}: ${error?.message ?? stderr.trim()}`);
  return stdout;
}

function live(manifests: readonly string[], context: string | undefined): void {
  const args = ["diff", "--server-side", "--force-conflicts", "--field-manager=argocd-controller", "-f", "-"];
  const { status, error } = spawnSync(
    "kubectl",
    [...args, ...(context === undefined ? [] : ["--context", context])],
    {
      input: manifests.join("---\n"),
      stdio: ["pipe", "inherit", "inherit"],
    },
  );
  if (error !== undefined) throw new Error(`kubectl: ${error.message}`);
  process.exitCode = status === 0 || status === 1 ? status : 2;
}

try {
  program.parse();
} catch (error) {
  console.error(`error: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 2;
}
