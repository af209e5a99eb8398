import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { Command } from "commander";
import { parseAllDocuments } from "yaml";
import { KubeApi, type KubeObject } from "#operators/controller-kit/api.ts";
import { loadKubeConfig } from "#operators/controller-kit/kubeconfig.ts";
import { COMMAND_ANNOTATION, resourceOf } from "#operators/model-deployment/api/crd.ts";
import { objectProblems } from "#operators/model-deployment/api/lint.ts";
import type { ModelDeploymentStatus } from "#operators/model-deployment/api/status.ts";
import { columns, instrumentName, stopSignal, UsageError } from "./common.ts";

// Commands about ModelDeployments, through the API server.

const RESOURCE = resourceOf("ModelDeployment");
const ANSWER_MS = 30_000;
const WATCH_MS = 1_000;

type ModelDeployment = KubeObject & { readonly status?: ModelDeploymentStatus };

interface Options {
  readonly namespace: string;
  readonly json?: boolean;
  readonly watch?: boolean;
  readonly full?: boolean;
}

function common(command: Command): Command {
  return command
    .option("-n, --namespace <name>", "its namespace", process.env["NAMESPACE"] ?? "baton")
    .option("--json", "print JSON");
}

async function withApi<T>(work: (api: KubeApi) => Promise<T>): Promise<T> {
  const api = new KubeApi(loadKubeConfig(), { fieldManager: "baton-cli" });
  try {
    return await work(api);
  } finally {
    api.close();
  }
}

/** `baton get`, `baton promote` and the other verbs, `baton lint`. */
export function deploymentCommands(): readonly Command[] {
  return [
    getCommand(),
    verbCommand("promote", "go one step on, or to the end").option(
      "--full",
      "skip all steps: everything at once",
    ),
    verbCommand("pause", "hold the release where it is"),
    verbCommand("resume", "let a release go on"),
    verbCommand("abort", "give everything back to the stable revision"),
    verbCommand("retry", "try a revision again that was rolled back"),
    lintCommand(),
  ];
}

function getCommand(): Command {
  return common(new Command("get"))
    .argument("[name]", "a ModelDeployment; all of the namespace when absent")
    .description("show how a release stands")
    .option("-w, --watch", "go on showing it when it changes")
    .action(async (name: string | undefined, options: Options) => {
      await withApi(async (api) => {
        const stop = stopSignal();
        let shown = "";
        do {
          const found =
            name === undefined
              ? await api.listAll<ModelDeployment>(RESOURCE, { namespace: options.namespace })
              : [await api.get<ModelDeployment>(RESOURCE, options.namespace, name)];
          const text = options.json
            ? JSON.stringify(
                found.map(({ metadata, status }) => ({ name: metadata.name, status: status ?? {} })),
              )
            : found.length === 0
              ? `no ModelDeployment in ${options.namespace}`
              : found.map(draw).join("\n\n");
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

function verbCommand(verb: string, description: string): Command {
  return common(new Command(verb))
    .argument("<name>", "the ModelDeployment")
    .description(description)
    .action(async (name: string, options: Options) => {
      await withApi(async (api) => {
        const { status = {} } = await api.get<ModelDeployment>(RESOURCE, options.namespace, name);
        const revision = status.candidate?.revision ?? status.condemned?.at(-1);
        if (revision === undefined) throw new UsageError(`${name}: nothing is being released`);
        const id = randomUUID();
        const command = JSON.stringify({ id, verb: options.full ? `${verb}-full` : verb, revision });
        await api.merge(RESOURCE, options.namespace, name, {
          metadata: { annotations: { [COMMAND_ANNOTATION]: command } },
        });
        const result = await answer(api, options.namespace, name, id);
        if (options.json) console.log(JSON.stringify({ name, verb, revision, result }));
        else console.log(`${verb} ${revision}: ${result}`);
        if (result.startsWith("refused")) process.exitCode = 1;
      });
    });
}

async function answer(api: KubeApi, namespace: string, name: string, id: string): Promise<string> {
  const deadline = Date.now() + ANSWER_MS;
  while (Date.now() < deadline) {
    const { status } = await api.get<ModelDeployment>(RESOURCE, namespace, name);
    if (status?.lastVerb?.id === id) return status.lastVerb.result;
    await sleep(200);
  }
  throw new UsageError(`no answer in ${ANSWER_MS / 1000} s: is the operator running?`);
}

function lintCommand(): Command {
  return new Command("lint")
    .argument("<files...>", "YAML files")
    .description("check files as the cluster would, without a cluster")
    .option("--json", "print JSON")
    .action(async (files: readonly string[], options: { json?: boolean }) => {
      const problems: { file: string; object: string; field: string; message: string }[] = [];
      for (const file of files) {
        const text = await readFile(file, "utf8").catch((error: Error) => {
          throw new UsageError(error.message);
        });
        for (const entry of parseAllDocuments(text)) {
          const syntax = entry.errors[0];
          const object =
            syntax === undefined ? (entry.toJS() as { metadata?: { name?: string } } | null) : null;
          if (syntax === undefined && object === null) continue;
          const found =
            syntax === undefined ? objectProblems(object) : [{ field: "", message: syntax.message }];
          problems.push(
            ...found.map((problem) => ({ file, object: object?.metadata?.name ?? "", ...problem })),
          );
        }
      }
      if (options.json) console.log(JSON.stringify(problems));
      else if (problems.length === 0) console.log("nothing wrong");
      else
        for (const { file, object, field, message } of problems)
          console.log(`${file}: ${object} ${field}: ${message}`);
      if (problems.length > 0) process.exitCode = 1;
    });
}

/** A release as a tree. */
export function draw({ metadata, status = {} }: ModelDeployment): string {
  const { stable, candidate, assignments = [], analysis = [], history = [] } = status;
  const line = (role: string, entry: typeof stable, more = "") => {
    if (entry === undefined) return [];
    const owns = assignments.find(({ revision }) => revision === entry.revision)?.instruments ?? [];
    const what = owns.map(instrumentName).join(", ") || "shadow";
    return [[role, entry.revision, entry.version, `${entry.available}/${entry.replicas}`, `${what}${more}`]];
  };
  const share = status.weight === undefined ? "" : ` (${status.weight} %)`;
  const rows = [...line("stable", stable), ...line("candidate", candidate, share)];
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
