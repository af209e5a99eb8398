import * as z from "zod";
import type { KubeApi, KubeObject, Resource } from "#operators/controller-kit/api.ts";
import { ApiError } from "#operators/controller-kit/errors.ts";
import { type AnalysisTemplateSpec, analysisTemplateSpec } from "../api/analysis.ts";
import { COMMAND_ANNOTATION, resourceOf } from "../api/crd.ts";
import { ruleProblems } from "../api/lint.ts";
import {
  type Instrument,
  instrumentSetSpec,
  type ModelDeploymentSpec,
  modelDeploymentSpec,
} from "../api/model-deployment.ts";
import { type ModelDeploymentStatus, modelDeploymentStatus } from "../api/status.ts";
import { type Command, type Effect, type Observed, type RevisionView, VERBS } from "../core/observed.ts";
import {
  ANNOTATIONS,
  DEPLOYMENTS,
  type Deployment,
  DISRUPTION_BUDGETS,
  deploymentName,
  deploymentOf,
  disruptionBudgetOf,
  epochAnnotation,
  LABELS,
} from "./deployment.ts";

// What a pass sees of the API server, read live, and what it writes there.

export const MODEL_DEPLOYMENTS = resourceOf("ModelDeployment");
const TEMPLATES = resourceOf("AnalysisTemplate");
const SETS = resourceOf("InstrumentSet");
const PODS: Resource = { group: "", version: "v1", plural: "pods", kind: "Pod" };

export interface CustomObject extends KubeObject {
  readonly spec: unknown;
  readonly status?: unknown;
}

interface Pod extends KubeObject {
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}

/** A ModelDeployment and what belongs to it. */
export interface Seen extends Pick<Observed, "invalid" | "instruments" | "templates" | "revisions"> {
  readonly object: CustomObject;
  readonly spec: ModelDeploymentSpec;
  readonly status: ModelDeploymentStatus;
  readonly command: Command | undefined;
}

const commandSchema = z.object({
  id: z.string().min(1).max(63),
  verb: z.enum(VERBS),
  revision: z.string().max(63),
  to: z.string().max(63).optional(),
  reason: z.string().max(256).optional(),
  notify: z.boolean().optional(),
});

export class Cluster {
  readonly #api: KubeApi;
  readonly #epoch: number | undefined;

  /** `epoch` counts leading operators; what is written carries it. */
  constructor(api: KubeApi, epoch?: number) {
    this.#api = api;
    this.#epoch = epoch;
  }

  /** undefined when the object is gone, or about to be. A spec that cannot be read is an Invalid error. */
  async observe(namespace: string, name: string): Promise<Seen | undefined> {
    const object = await this.#find<CustomObject>(MODEL_DEPLOYMENTS, namespace, name);
    if (object === undefined || object.metadata.deletionTimestamp !== undefined) return undefined;
    const parsed = modelDeploymentSpec.safeParse(object.spec);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      throw new ApiError("Invalid", 0, `spec.${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""}`);
    }
    const spec = parsed.data;
    const status = modelDeploymentStatus.safeParse(object.status ?? {});
    if (!status.success) throw new ApiError("Invalid", 0, `status: ${status.error.issues[0]?.message ?? ""}`);
    const problems = ruleProblems("ModelDeployment", spec).map(
      ({ field, message }) => `${field}: ${message}`,
    );
    const [templates, instruments, revisions] = await Promise.all([
      this.#templates(namespace, spec, problems),
      this.#instruments(namespace, spec, problems),
      this.#revisions(namespace, name),
    ]);
    return {
      object,
      spec,
      status: status.data,
      command: parseCommand(object.metadata.annotations?.[COMMAND_ANNOTATION]),
      invalid: problems[0],
      instruments,
      templates,
      revisions,
    };
  }

  async writeStatus({ metadata }: KubeObject, status: ModelDeploymentStatus): Promise<void> {
    const { name, namespace = "" } = metadata;
    const epoch = this.#epoch === undefined ? {} : { epoch: this.#epoch };
    await this.#api.apply<CustomObject & { status: unknown }>(
      MODEL_DEPLOYMENTS,
      { metadata: { name, namespace }, status: { ...status, ...epoch } } as CustomObject & {
        status: unknown;
      },
      "status",
    );
  }

  async scale({ object, spec, revisions }: Seen, effect: Effect & { kind: "Scale" }): Promise<void> {
    const { name, namespace = "" } = object.metadata;
    if (effect.template === "spec") {
      // Before the Deployment: where that is there, this is too.
      if (!revisions.some(({ revision }) => revision === effect.revision))
        await this.#api.apply(DISRUPTION_BUDGETS, disruptionBudgetOf(object, spec));
      await this.#api.apply(DEPLOYMENTS, deploymentOf(object, spec, effect.replicas, this.#epoch));
      return;
    }
    const id = deploymentName(name, effect.revision);
    // One that is not there has nothing to end.
    if (effect.replicas === 0 && (await this.#find(DEPLOYMENTS, namespace, id)) === undefined) return;
    await this.#api.merge(DEPLOYMENTS, namespace, id, {
      metadata: { annotations: epochAnnotation(this.#epoch) },
      spec: { replicas: effect.replicas },
    });
  }

  /** Has a revision's pods made anew, as `kubectl rollout restart` does. */
  async restart({ object }: Seen, { revision, at }: Effect & { kind: "Restart" }): Promise<void> {
    const { name, namespace } = object.metadata;
    await this.#api.merge(DEPLOYMENTS, namespace, deploymentName(name, revision), {
      metadata: { annotations: epochAnnotation(this.#epoch) },
      spec: { template: { metadata: { annotations: { [ANNOTATIONS.restartedAt]: at } } } },
    });
  }

  async deleteRevision({ object }: Seen, revision: string): Promise<void> {
    const { name, namespace } = object.metadata;
    const id = deploymentName(name, revision);
    await this.#api.delete(DISRUPTION_BUDGETS, namespace, id);
    await this.#api.delete(DEPLOYMENTS, namespace, id);
  }

  async #revisions(namespace: string, name: string): Promise<readonly RevisionView[]> {
    const labelSelector = `${LABELS.deployment}=${name}`;
    const [deployments, pods] = await Promise.all([
      this.#api.listAll<Deployment>(DEPLOYMENTS, { namespace, labelSelector }),
      this.#api.listAll<Pod>(PODS, { namespace, labelSelector }),
    ]);
    return deployments.map((deployment) => {
      const { metadata, spec, status } = deployment;
      const revision = metadata.labels?.[LABELS.revision] ?? "";
      const replicas = spec.replicas ?? 1;
      const current = status?.observedGeneration === metadata.generation;
      const own = pods.filter(
        (pod) =>
          pod.metadata.labels?.[LABELS.revision] === revision && pod.metadata.deletionTimestamp === undefined,
      );
      const same = (pod: Pod, annotation: string) =>
        pod.metadata.annotations?.[annotation] === metadata.annotations?.[annotation];
      const coherent =
        own.length === replicas &&
        own.every((pod) => same(pod, ANNOTATIONS.digest) && same(pod, ANNOTATIONS.configuration));
      const restartedAt = spec.template.metadata?.annotations?.[ANNOTATIONS.restartedAt];
      return {
        revision,
        replicas,
        available: current ? (status?.availableReplicas ?? 0) : 0,
        coherent,
        ...(restartedAt === undefined ? {} : { restartedAt }),
      };
    });
  }

  async #templates(
    namespace: string,
    { analysis, strategy }: ModelDeploymentSpec,
    problems: string[],
  ): Promise<ReadonlyMap<string, AnalysisTemplateSpec>> {
    const { canary, blueGreen } = strategy;
    const names = new Set(
      [
        analysis,
        blueGreen?.prePromotionAnalysis,
        blueGreen?.postPromotionAnalysis,
        ...(canary?.steps ?? []).map((step) => step.analysis),
      ].flatMap((use) => use?.templates.map(({ name }) => name) ?? []),
    );
    const templates = new Map<string, AnalysisTemplateSpec>();
    for (const name of names) {
      const found = await this.#find<CustomObject>(TEMPLATES, namespace, name);
      const parsed = found === undefined ? undefined : analysisTemplateSpec.safeParse(found.spec);
      if (parsed?.success) templates.set(name, parsed.data);
      else
        problems.push(`AnalysisTemplate ${name} ${found === undefined ? "is not there" : "cannot be read"}`);
    }
    return templates;
  }

  async #instruments(
    namespace: string,
    { instruments = [], instrumentSetRef }: ModelDeploymentSpec,
    problems: string[],
  ): Promise<readonly Instrument[]> {
    if (instrumentSetRef === undefined) return instruments;
    const { name } = instrumentSetRef;
    const found = await this.#find<CustomObject>(SETS, namespace, name);
    const parsed = found === undefined ? undefined : instrumentSetSpec.safeParse(found.spec);
    if (parsed?.success) return parsed.data.instruments;
    problems.push(`InstrumentSet ${name} ${found === undefined ? "is not there" : "cannot be read"}`);
    return [];
  }

  async #find<T extends KubeObject>(of: Resource, namespace: string, name: string): Promise<T | undefined> {
    try {
      return await this.#api.get<T>(of, namespace, name);
    } catch (error) {
      if (error instanceof ApiError && error.kind === "NotFound") return undefined;
      throw error;
    }
  }
}

/** What a person asks for; what cannot be read asks for nothing. */
function parseCommand(text: string | undefined): Command | undefined {
  if (text === undefined) return undefined;
  try {
    return commandSchema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
