import { setTimeout as sleep } from "node:timers/promises";
import { Command } from "commander";
import type { ModelDeploymentStatus } from "#operators/model-deployment/api/status.ts";
import {
  type ClusterOptions,
  chooseObject,
  clusterOptions,
  listObjects,
  type ModelDeployment,
  withApi,
} from "./cluster.ts";
import { columns, instrumentName, stopSignal } from "./common.ts";

// How releases stand, and how they have ended.

const WATCH_MS = 1_000;

interface GetOptions extends ClusterOptions {
  readonly watch?: boolean;
}

/** `baton get`, also called `status`. */
export function getCommand(): Command {
  return clusterOptions(new Command("get"))
    .alias("status")
    .argument("[name]", "a ModelDeployment; all of the namespace when absent")
    .description("show how a release stands")
    .option("-w, --watch", "go on showing it when it changes")
    .action(async (name: string | undefined, options: GetOptions) => {
      await withApi(options, async (api) => {
        const stop = stopSignal();
        let shown = "";
        do {
          const found =
            name === undefined
              ? await listObjects(api, options.namespace)
              : [await chooseObject(api, options.namespace, name)];
          const text = options.json
            ? JSON.stringify(
                found.map(({ metadata, status }) => ({ name: metadata.name, status: status ?? {} })),
              )
            : found.length === 0
              ? `no ModelDeployment in ${options.namespace}`
              : found.map(drawRelease).join("\n\n");
          if (text !== shown) {
            if (options.watch && !options.json && process.stdout.isTTY) process.stdout.write("\x1b[2J\x1b[H");
            console.log(text);
            shown = text;
          }
          if (options.watch) await sleep(WATCH_MS, undefined, { signal: stop }).catch(() => {});
        } while (options.watch && !stop.aborted);
      });
    });
}

/** `baton history list`: the releases that have ended, the newest first. */
export function releasesCommand(): Command {
  return clusterOptions(new Command("list"))
    .argument("[name]", "the ModelDeployment; may be left out when there is one only")
    .description("the releases that have ended, and how")
    .action(async (name: string | undefined, options: ClusterOptions) => {
      await withApi(options, async (api) => {
        const { metadata, status } = await chooseObject(api, options.namespace, name);
        const history = status?.history ?? [];
        if (options.json) console.log(JSON.stringify(history));
        else if (history.length === 0) console.log(`${metadata.name}: no release has ended yet`);
        else
          console.log(columns([["ENDED", "TOOK", "HOW", "REVISION", "VERSION", "WHY"], ...history.map(row)]));
      });
    });
}

function row(entry: NonNullable<ModelDeploymentStatus["history"]>[number]): readonly string[] {
  const { endedAt, startedAt, completionStatus, revision, version, reason, message } = entry;
  const seconds = Math.round((Date.parse(endedAt) - Date.parse(startedAt)) / 1000);
  const why = message === undefined ? reason : `${reason}: ${message}`;
  return [`${endedAt.slice(0, 19)}Z`, `${seconds} s`, completionStatus, revision, version, why];
}

/** A release as a tree. */
export function drawRelease({ metadata, status = {} }: ModelDeployment): string {
  const { stable, candidate, assignments = [], analysis = [], history = [] } = status;
  const line = (role: string, entry: typeof stable, more = "") => {
    if (entry === undefined) return [];
    const owns = assignments.find(({ revision }) => revision === entry.revision)?.instruments ?? [];
    const what = owns.map(instrumentName).join(", ") || "shadow";
    return [[role, entry.revision, entry.version, `${entry.available}/${entry.replicas}`, `${what}${more}`]];
  };
  const share = status.weight === undefined ? "" : ` (${status.weight} %)`;
  // What was taken back and decides on, for stable has no replica.
  const others = assignments.filter(
    ({ revision }) => revision !== "" && revision !== stable?.revision && revision !== candidate?.revision,
  );
  const rows = [
    ...line("stable", stable),
    ...line("candidate", candidate, share),
    ...others.map(({ revision, instruments }) => [
      ...["taken back", revision, "", ""],
      instruments.map(instrumentName).join(", "),
    ]),
  ];
  const parts = rows.length === 0 ? [] : columns(rows).split("\n");
  for (const { name, phase, successes, failures, measurements } of analysis) {
    const last = measurements.at(-1);
    const value =
      last === undefined
        ? ""
        : `, last ${last.value ?? last.verdict}${last.message === undefined ? "" : `: ${last.message}`}`;
    parts.push(`${name}  ${phase}  ${successes} good, ${failures} bad${value}`);
  }
  for (const { endedAt, completionStatus, revision, version, message } of history.slice(0, 3)) {
    parts.push(
      `${endedAt.slice(0, 19)}Z  ${completionStatus}  ${revision} (${version})${message === undefined ? "" : `  ${message}`}`,
    );
  }
  const tree = parts.map((part, i) => `${i === parts.length - 1 ? "└─" : "├─"} ${part}`);
  return [`${metadata.name}  ${status.phase ?? "Pending"}  ${status.message ?? ""}`, ...tree].join("\n");
}
