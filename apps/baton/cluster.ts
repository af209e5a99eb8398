import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Command as CliCommand } from "commander";
import { KubeApi, type KubeObject, type Resource } from "#operators/controller-kit/api.ts";
import { ApiError } from "#operators/controller-kit/errors.ts";
import { COMMAND_ANNOTATION, resourceOf } from "#operators/model-deployment/api/crd.ts";
import type { ModelDeploymentSpec } from "#operators/model-deployment/api/model-deployment.ts";
import type { ModelDeploymentStatus } from "#operators/model-deployment/api/status.ts";
import { UsageError } from "./common.ts";
import { explained } from "./contact.ts";
import { readKubeConfig } from "./kubeconfig.ts";
import { noSuch } from "./names.ts";

// ModelDeployments through the API server, for commands.

export const RESOURCE = resourceOf("ModelDeployment");
const NAMESPACES: Resource = { group: "", version: "v1", plural: "namespaces", kind: "Namespace" };
const ANSWER_MS = 30_000;
/** What an object of the API may be called; another name is part of no path. */
const NAME = /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/;

export type ModelDeployment = KubeObject & {
  readonly spec: Pick<ModelDeploymentSpec, "gates">;
  readonly status?: ModelDeploymentStatus;
};

export interface ClusterOptions {
  readonly namespace: string;
  readonly context?: string;
  readonly json?: boolean;
}

/** Adds the options of every command that asks the API server. */
export function clusterOptions(command: CliCommand): CliCommand {
  return command
    .option("-n, --namespace <name>", "its namespace", process.env["NAMESPACE"] || "baton")
    .option("--context <name>", "which context of the kubeconfig (default: the current one)")
    .option("--json", "print JSON");
}

export async function withApi<T>(
  { context }: Pick<ClusterOptions, "context">,
  work: (api: KubeApi) => Promise<T>,
): Promise<T> {
  const contact = readKubeConfig(context);
  const api = new KubeApi(contact.config, { fieldManager: "baton-cli" });
  try {
    return await work(api);
  } catch (error) {
    throw explained(error, contact);
  } finally {
    api.close();
  }
}

/** The ModelDeployment that is named, or the only one of the namespace. */
export async function chooseObject(
  api: KubeApi,
  namespace: string,
  named: string | undefined,
): Promise<ModelDeployment> {
  if (named !== undefined && NAME.test(named)) {
    const found = await api.get<ModelDeployment>(RESOURCE, namespace, named).catch(ifNotFound(undefined));
    if (found !== undefined) return found;
  }
  const all = await listObjects(api, namespace);
  const names = all.map(({ metadata }) => metadata.name);
  if (named !== undefined) throw noSuch(`ModelDeployment in ${namespace}:`, named, names);
  const [only, ...others] = all;
  if (only !== undefined && others.length === 0) return only;
  throw new UsageError(
    only === undefined
      ? `no ModelDeployment in ${namespace}`
      : `say which ModelDeployment you mean: ${names.join(", ")}`,
  );
}

/** All of a namespace; throws where there is no such namespace. */
export async function listObjects(api: KubeApi, namespace: string): Promise<readonly ModelDeployment[]> {
  if (!NAME.test(namespace)) throw noSuch("namespace", namespace, await namespaces(api));
  const found = await api.listAll<ModelDeployment>(RESOURCE, { namespace });
  if (found.length > 0) return found;
  // A namespace that is not there is as empty as one that is.
  const there = await api.get(NAMESPACES, undefined, namespace).catch((error: unknown) => {
    if (error instanceof ApiError && error.kind === "Forbidden") return true;
    return ifNotFound(undefined)(error);
  });
  if (there === undefined) throw noSuch("namespace", namespace, await namespaces(api));
  return found;
}

/** What may be seen of them. */
async function namespaces(api: KubeApi): Promise<readonly string[]> {
  const all = await api.listAll(NAMESPACES).catch((error: unknown) => {
    if (error instanceof ApiError && error.kind === "Forbidden") return [];
    throw error;
  });
  return all.map(({ metadata }) => metadata.name);
}

function ifNotFound<T>(instead: T): (error: unknown) => T {
  return (error) => {
    if (error instanceof ApiError && error.kind === "NotFound") return instead;
    throw error;
  };
}

export interface Asked {
  readonly verb: string;
  readonly revision: string;
  readonly to?: string | undefined;
  readonly reason?: string | undefined;
  readonly notify?: boolean | undefined;
}

/** Asks the operator for something; resolves with its answer. */
export async function ask(api: KubeApi, { metadata }: ModelDeployment, asked: Asked): Promise<string> {
  const { namespace, name } = metadata;
  const id = randomUUID();
  await api.merge(RESOURCE, namespace, name, {
    metadata: { annotations: { [COMMAND_ANNOTATION]: JSON.stringify({ id, ...asked }) } },
  });
  const deadline = Date.now() + ANSWER_MS;
  while (Date.now() < deadline) {
    const { status } = await api.get<ModelDeployment>(RESOURCE, namespace, name);
    if (status?.lastVerb?.id === id) return status.lastVerb.result;
    await sleep(200);
  }
  throw new UsageError(`no answer in ${ANSWER_MS / 1000} s: is the operator running?`);
}
