import { userInfo } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { Command } from "commander";
import type { KubeApi } from "#operators/controller-kit/api.ts";
import {
  ask,
  type ClusterOptions,
  chooseObject,
  clusterOptions,
  type ModelDeployment,
  RESOURCE,
  withApi,
} from "./cluster.ts";
import { stopSignal, UsageError } from "./common.ts";

// What people ask the operator for. Exit code 1 when it refuses.

interface VerbOptions extends ClusterOptions {
  readonly full?: boolean;
  readonly toRevision?: string;
  readonly reason?: string;
  readonly gate?: string;
  readonly by?: string;
}

export function verbCommands(): readonly Command[] {
  return [
    verbCommand("promote", "go one step on, or to the end").option(
      "--full",
      "skip all steps: everything at once",
    ),
    verbCommand("pause", "hold the release where it is"),
    verbCommand("resume", "let a release go on"),
    verbCommand("abort", "give everything back to the stable revision"),
    verbCommand("retry", "try a revision again that was rolled back, or undone"),
    verbCommand("undo", "go back to the revision before, at once, whatever the spec says")
      .option("--to-revision <revision>", "which revision to go back to")
      .option("--reason <text>", "why, for people"),
    verbCommand("restart", "make the stable revision's pods anew, one after the other"),
    verbCommand("approve", "open a gate at which a release waits for people")
      .option("--gate <name>", "the gate; may be left out when there is one only")
      .option("--by <name>", "who approves; default: the name of this session's user")
      .option("--reason <text>", "why, for people"),
    rollbackCommand(),
  ];
}

function verbCommand(verb: string, description: string): Command {
  return clusterOptions(new Command(verb))
    .argument("[name]", "the ModelDeployment; may be left out when there is one only")
    .description(description)
    .action(async (name: string | undefined, options: VerbOptions) => {
      await withApi(options, async (api) => {
        const object = await chooseObject(api, options.namespace, name);
        const asked = {
          verb: options.full ? `${verb}-full` : verb,
          revision: meant(verb, object),
          to: options.toRevision,
          ...(verb === "approve" ? approval(object, options) : {}),
          reason: options.reason,
        };
        const result = await ask(api, object, asked);
        if (options.json) console.log(JSON.stringify({ name: object.metadata.name, ...asked, result }));
        else console.log(`${verb} ${asked.revision}: ${result}`);
        if (result.startsWith("refused")) process.exitCode = 1;
      });
    });
}

/** Which gate is meant, and who opens it. */
function approval({ spec }: ModelDeployment, { gate, by }: VerbOptions): { gate: string; by: string } {
  const names = (spec.gates ?? []).map(({ name }) => name);
  const [only, ...others] = names;
  if (gate === undefined && others.length > 0) {
    throw new UsageError(`say which gate is meant with --gate: ${names.join(", ")}`);
  }
  return { gate: gate ?? only ?? "", by: by ?? userInfo().username };
}

/** The revision that a person means who says this now. */
export function meant(verb: string, { metadata, status = {} }: ModelDeployment): string {
  const { candidate, stable, condemned, pinned, decision } = status;
  const undone = pinned?.instead ?? condemned?.at(-1);
  const other = { retry: undone, undo: stable?.revision, restart: stable?.revision }[verb];
  // What is being taken back, or was; not what is being released now.
  const goesBack = decision !== undefined && decision.kind !== "Promote";
  const first = verb === "retry" && !goesBack ? (undone ?? candidate?.revision) : candidate?.revision;
  const revision = first ?? other ?? condemned?.at(-1);
  if (revision === undefined) throw new UsageError(`${metadata.name}: nothing is being released`);
  return revision;
}

const FOLLOW_MS = 600_000;

interface RollbackOptions extends ClusterOptions {
  readonly environment?: string;
  readonly toVersion: string;
  readonly reason: string;
  readonly notifyTeam?: boolean;
  readonly wait: boolean;
}

function rollbackCommand(): Command {
  return clusterOptions(new Command("rollback"))
    .argument("[name]", "the ModelDeployment; may be left out when there is one only")
    .description("go back to an earlier model version at once, and follow it to the end")
    .option("--environment <name>", "which environment: the kubeconfig's context of that name")
    .requiredOption("--to-version <version>", "the model version to go back to")
    .requiredOption("--reason <text>", "why, for people: it is kept with the object")
    .option("--notify-team", "tell every notification service")
    .option("--no-wait", "do not wait for its end")
    .addHelpText("after", "\nExit code 1 when it is refused, or has not ended well within 10 minutes.")
    .action(async (name: string | undefined, options: RollbackOptions) => {
      const context = options.environment ?? options.context;
      await withApi(context === undefined ? {} : { context }, async (api) => {
        const object = await chooseObject(api, options.namespace, name);
        const to = revisionOfVersion(object, options.toVersion);
        const { reason, notifyTeam: notify } = options;
        const started = Date.now();
        const asked = { verb: "undo", revision: meant("undo", object), to, reason, notify };
        const result = await ask(api, object, asked);
        const refused = result.startsWith("refused");
        if (refused) process.exitCode = 1;
        if (!options.json) console.log(`rollback to ${options.toVersion} (${to}): ${result}`);
        if (refused || !options.wait) {
          if (options.json) console.log(JSON.stringify({ name: object.metadata.name, ...asked, result }));
          return;
        }
        const ended = await followed(api, object, to, options.json !== true);
        const seconds = (Date.now() - started) / 1000;
        if (!ended) process.exitCode = 1;
        if (options.json) {
          console.log(JSON.stringify({ name: object.metadata.name, ...asked, result, ended, seconds }));
        } else if (ended) {
          console.log(`${options.toVersion} decides on everything after ${seconds.toFixed(1)} s`);
        } else {
          console.error(`error: it has not come to its end: look at baton get ${object.metadata.name}`);
        }
      });
    });
}

/** The revision of the newest promoted release with a version, unless it was rolled back since. */
export function revisionOfVersion({ metadata, status = {} }: ModelDeployment, version: string): string {
  const { stable, candidate, history = [], condemned = [] } = status;
  const promoted = history.filter(({ completionStatus }) => completionStatus.endsWith("Promoted"));
  const known = [...(stable === undefined ? [] : [stable]), ...promoted].filter(
    ({ revision }) => !condemned.includes(revision),
  );
  const found = known.find((entry) => entry.version === version);
  if (found !== undefined) return found.revision;
  const others = [...history, ...(candidate === undefined ? [] : [candidate])];
  const was = others.find((entry) => entry.version === version);
  const why =
    was === undefined
      ? "has had no version"
      : condemned.includes(was.revision)
        ? "was rolled back from version"
        : "was never promoted to version";
  const versions = [...new Set(known.map((entry) => entry.version))].join(", ");
  throw new UsageError(`${metadata.name} ${why} ${version}; it can go back to ${versions || "none"}`);
}

/** Shows how it goes until a revision decides on everything; false when it has ended otherwise, or takes too long. */
async function followed(
  api: KubeApi,
  { metadata }: ModelDeployment,
  to: string,
  show: boolean,
): Promise<boolean> {
  const stop = stopSignal();
  const deadline = Date.now() + FOLLOW_MS;
  let shown = "";
  while (!stop.aborted && Date.now() < deadline) {
    const { status = {} } = await api.get<ModelDeployment>(RESOURCE, metadata.namespace, metadata.name);
    const { stable, candidate, decision, message = "", pinned, assignments = [], conditions = [] } = status;
    if (show && message !== shown) console.error(message);
    shown = message;
    const all = assignments.every(({ revision }) => revision === to);
    // Whoever has everything decides only where it has replicas.
    const isAlive = conditions.some(({ type, status: is }) => type === "Available" && is === "True");
    const isOver = stable?.revision === to && candidate === undefined && decision === undefined;
    if (isOver && all && isAlive) return true;
    // Another command has come, or another spec.
    if (pinned?.revision !== to && candidate?.revision !== to && stable?.revision !== to) return false;
    await sleep(200, undefined, { signal: stop }).catch(() => {});
  }
  return false;
}
