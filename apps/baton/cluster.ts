import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Command as CliCommand } from "commander";
import { KubeApi, type KubeObject } from "#operators/controller-kit/api.ts";
import { loadKubeConfig } from "#operators/controller-kit/kubeconfig.ts";
import { COMMAND_ANNOTATION, resourceOf } from "#operators/model-deployment/api/crd.ts";
import type { ModelDeploymentSpec } from "#operators/model-deployment/api/model-deployment.ts";
import type { ModelDeploymentStatus } from "#operators/model-deployment/api/status.ts";
import { UsageError } from "./common.ts";

// ModelDeployments through the API server, for commands.

export const RESOURCE = resourceOf("ModelDeployment");
const ANSWER_MS = 30_000;

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
    .option("-n, --namespace <name>", "its namespace", process.env["NAMESPACE"] ?? "baton")
    .option("--context <name>", "which context of the kubeconfig (default: the current one)")
    .option("--json", "print JSON");
}

export async function withApi<T>(
  { context }: Pick<ClusterOptions, "context">,
  work: (api: KubeApi) => Promise<T>,
): Promise<T> {
  const config = loadKubeConfig();
  if (context !== undefined) {
    const known = config.getContexts().map(({ name }) => name);
    if (!known.includes(context)) {
      throw new UsageError(`the kubeconfig has no context ${context}; it has ${known.join(", ") || "none"}`);
    }
    config.setCurrentContext(context);
  }
  const api = new KubeApi(config, { fieldManager: "baton-cli" });
  try {
    return await work(api);
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
  if (named !== undefined) return api.get<ModelDeployment>(RESOURCE, namespace, named);
  const found = await api.listAll<ModelDeployment>(RESOURCE, { namespace });
  const [only, ...others] = found;
  if (only !== undefined && others.length === 0) return only;
  const names = found.map(({ metadata }) => metadata.name).join(", ");
  throw new UsageError(
    only === undefined
      ? `no ModelDeployment in ${namespace}`
      : `say which ModelDeployment you mean: ${names}`,
  );
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
