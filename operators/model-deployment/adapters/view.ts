import { isDeepStrictEqual } from "node:util";
import type { Api, KubeObject, ObjectMeta, Resource } from "#operators/controller-kit/api.ts";
import type { ConditionThen } from "#operators/controller-kit/conditions.ts";
import { ApiError } from "#operators/controller-kit/errors.ts";
import { Reflector } from "#operators/controller-kit/reflector.ts";
import { type AnalysisTemplateSpec, analysisTemplateSpec } from "../api/analysis.ts";
import { COMMAND_ANNOTATION, resourceOf } from "../api/crd.ts";
import { type Problem, ruleProblems } from "../api/lint.ts";
import {
  type Instrument,
  instrumentSetSpec,
  type ModelDeploymentSpec,
  modelDeploymentSpec,
} from "../api/model-deployment.ts";
import { type ModelDeploymentStatus, modelDeploymentStatus } from "../api/status.ts";
import { usageProblems, usesOf } from "../api/texts.ts";
import type { Identified } from "../core/coherence.ts";
import { withCutTexts } from "../core/fit.ts";
import type { Command, Observed, RevisionView, Unreadable } from "../core/observed.ts";
import { budgetProblem, DISRUPTION_BUDGETS, type DisruptionBudget, specOnly } from "./budget.ts";
import { parseCommand } from "./command.ts";
import { ANNOTATIONS, DEPLOYMENTS, type Deployment, LABELS } from "./deployment.ts";
import { problemOf, problemsOf } from "./problem.ts";

// What a pass sees of the API server: copies that follow it, and that know what was written from here at once.

export const MODEL_DEPLOYMENTS = resourceOf("ModelDeployment");
const TEMPLATES = resourceOf("AnalysisTemplate");
const SETS = resourceOf("InstrumentSet");
const PODS: Resource = { group: "", version: "v1", plural: "pods", kind: "Pod" };

export interface CustomObject extends KubeObject {
  readonly spec: unknown;
  readonly status?: unknown;
}

/** What is looked at of a pod. */
interface Pod extends KubeObject {
  readonly status?: {
    readonly conditions?: readonly Pick<ConditionThen, "type" | "status" | "lastTransitionTime">[];
    readonly containerStatuses?: readonly {
      readonly restartCount: number;
      readonly state?: { readonly running?: { readonly startedAt?: string } };
    }[];
    /** Why it is not ready, in one sentence: what is kept of all that a pod says of that. */
    readonly problem?: string;
  };
}

/** A ModelDeployment and what belongs to it. */
export interface Seen extends Pick<Observed, "invalid" | "instruments" | "templates"> {
  readonly revisions: readonly Identified[];
  readonly budgets: readonly DisruptionBudget[];
  readonly object: CustomObject;
  readonly spec: ModelDeploymentSpec;
  readonly status: ModelDeploymentStatus;
  readonly command: Command | Unreadable | undefined;
}

export interface ViewOptions {
  readonly api: Api;
  /** The only namespace that is looked at; all when absent. */
  readonly namespace?: string | undefined;
  /** Called with `namespace/name` of a ModelDeployment of which something has changed; urgent is what people ask for. */
  readonly onChange: (key: string, urgent: boolean) => void;
  readonly onError: (error: ApiError) => void;
}

/** What a spec says, and which rules it breaks. */
interface Read {
  readonly generation: number | undefined;
  readonly spec: ModelDeploymentSpec;
  readonly problems: readonly string[];
}

/** An AnalysisTemplate; without a spec where it cannot be read. */
interface ReadTemplate {
  readonly spec: AnalysisTemplateSpec | undefined;
  readonly problems: readonly string[];
}

/** What a Deployment was made of. */
interface Made {
  readonly generation: number | undefined;
  readonly spec: object;
}

export class View {
  /** By uid: a spec is read once, not with each look at it. */
  readonly #specs = new Map<string, Read>();
  /** By the object as the reflector keeps it, which is another one when it has changed. */
  readonly #readTemplates = new WeakMap<CustomObject, ReadTemplate>();
  /** By uid: a Deployment as it was written from here, or first seen. */
  readonly #made = new Map<string, Made>();
  readonly #objects: Reflector<CustomObject>;
  readonly #deployments: Reflector<Deployment>;
  readonly #pods: Reflector<Pod>;
  readonly #budgets: Reflector<DisruptionBudget>;
  readonly #templates: Reflector<CustomObject>;
  readonly #sets: Reflector<CustomObject>;
  readonly #all: readonly Pick<Reflector<KubeObject>, "start" | "stop" | "lastProgress">[];

  constructor({ api, namespace, onChange, onError }: ViewOptions) {
    const common = { api, namespace, onError };
    const whole = { ...common, labelSelector: LABELS.deployment, keyOf: ownerKey };
    // Which ModelDeployment names a template or a set is not kept: there are few.
    const inNamespace = (changed: KubeObject) => {
      for (const { metadata } of this.#objects.objects())
        if (metadata.namespace === changed.metadata.namespace) onChange(keyOf(metadata), false);
    };
    this.#objects = new Reflector<CustomObject>({
      ...common,
      resource: MODEL_DEPLOYMENTS,
      part: withoutManagers,
      onChange: (object, change, before) => {
        if (change === "deleted") this.#specs.delete(object.metadata.uid ?? "");
        onChange(keyOf(object.metadata), change === "deleted" || isAsked(object, before));
      },
    });
    this.#deployments = new Reflector<Deployment>({
      ...whole,
      resource: DEPLOYMENTS,
      part: withoutManagers,
      onChange: (object, change) => {
        const { uid = "" } = object.metadata;
        if (change === "deleted") this.#made.delete(uid);
        else if (change === "added" && !this.#made.has(uid)) this.#made.set(uid, madeOf(object));
        onChange(ownerKey(object), false);
      },
    });
    this.#budgets = new Reflector<DisruptionBudget>({
      ...whole,
      resource: DISRUPTION_BUDGETS,
      part: (budget) => specOnly(withoutManagers(budget)),
      // Its status follows each pod.
      onChange: (budget, change, before) => {
        if (change !== "modified" || !isDeepStrictEqual(budget.spec, before?.spec))
          onChange(ownerKey(budget), false);
      },
    });
    this.#pods = new Reflector<Pod>({
      ...whole,
      resource: PODS,
      part: partOf,
      onChange: (pod, change, before) => {
        if (change !== "modified" || before === undefined || !isSame(pod, before))
          onChange(ownerKey(pod), false);
      },
    });
    this.#templates = new Reflector<CustomObject>({ ...common, resource: TEMPLATES, onChange: inNamespace });
    this.#sets = new Reflector<CustomObject>({ ...common, resource: SETS, onChange: inNamespace });
    this.#all = [this.#objects, this.#deployments, this.#budgets, this.#pods, this.#templates, this.#sets];
  }

  /** Resolves when everything has been listed once; before that nothing must be decided. */
  async start(): Promise<void> {
    await Promise.all(this.#all.map((reflector) => reflector.start()));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#all.map((reflector) => reflector.stop()));
  }

  /** Milliseconds since 1970 of the last sign of life of the API server on the watch that has been silent longest. */
  lastProgress(): number {
    return Math.min(...this.#all.map((reflector) => reflector.lastProgress()));
  }

  /** `namespace/name` of every ModelDeployment. */
  keys(): readonly string[] {
    return [...this.#objects.objects()].map(({ metadata }) => keyOf(metadata));
  }

  /** What was written is seen from now on. */
  wrote(object: CustomObject): void {
    this.#objects.put(object);
  }

  wroteDeployment(deployment: Deployment): void {
    this.#made.set(deployment.metadata.uid ?? "", madeOf(deployment));
    this.#deployments.put(deployment);
  }

  wroteBudget(budget: DisruptionBudget): void {
    this.#budgets.put(budget);
  }

  /** undefined when the object is gone, or about to be. A spec that cannot be read is an Invalid error. */
  see(key: string): Seen | undefined {
    const [object] = this.#objects.of(key);
    if (object === undefined || object.metadata.deletionTimestamp !== undefined) return undefined;
    const { namespace = "" } = object.metadata;
    const { spec, problems: broken } = this.#read(object);
    const status = readStatus(object.status ?? {});
    const problems = [...broken];
    // What is under way is watched on: a text that has become wrong meanwhile is an error of its measurement, which holds.
    const begins = status.candidate === undefined;
    const templates = this.#templatesOf(namespace, spec, problems, begins);
    const instruments = this.#instrumentsOf(namespace, spec, problems);
    return {
      object,
      spec,
      status,
      command: parseCommand(object.metadata.annotations?.[COMMAND_ANNOTATION]),
      invalid: problems[0],
      instruments,
      templates,
      revisions: this.#revisionsOf(key, object),
      budgets: this.#budgets.of(key),
    };
  }

  #read({ metadata: { uid = "", generation }, spec }: CustomObject): Read {
    const known = this.#specs.get(uid);
    if (known !== undefined && known.generation === generation) return known;
    const parsed = modelDeploymentSpec.safeParse(spec);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      throw new ApiError("Invalid", 0, `spec.${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""}`);
    }
    const problems = ruleProblems("ModelDeployment", parsed.data).map(sentence);
    const read = { generation, spec: parsed.data, problems };
    this.#specs.set(uid, read);
    return read;
  }

  #revisionsOf(key: string, owner: KubeObject): readonly Identified[] {
    const pods = this.#pods.of(key);
    const budgets = this.#budgets.of(key);
    return this.#deployments.of(key).map((deployment) => {
      const { metadata, spec, status } = deployment;
      const revision = metadata.labels?.[LABELS.revision] ?? "";
      const replicas = spec.replicas ?? 1;
      const own = pods.filter(
        (pod) =>
          pod.metadata.labels?.[LABELS.revision] === revision && pod.metadata.deletionTimestamp === undefined,
      );
      const same = (pod: Pod, annotation: string) =>
        pod.metadata.annotations?.[annotation] === metadata.annotations?.[annotation];
      const coherent =
        own.length === replicas &&
        own.every((pod) => same(pod, ANNOTATIONS.digest) && same(pod, ANNOTATIONS.configuration));
      const { [ANNOTATIONS.digest]: model = "", [ANNOTATIONS.configuration]: configuration } =
        metadata.annotations ?? {};
      const restartedAt = spec.template.metadata?.annotations?.[ANNOTATIONS.restartedAt];
      return {
        revision,
        replicas,
        // Whichever tells of it first that one has gone.
        available: Math.min(status?.availableReplicas ?? 0, own.filter(isReady).length),
        coherent,
        edited: this.#isEdited(deployment),
        budget: budgetProblem(budgets, owner, revision),
        identity: configuration === undefined ? { model } : { model, configuration },
        ...(restartedAt === undefined ? {} : { restartedAt }),
        ...times(deployment, own),
        ...problemsOf(deployment, own),
      };
    });
  }

  /** Whether others have changed what a Deployment is made of. Annotations raise its generation as well, and are theirs. */
  #isEdited(deployment: Deployment): boolean {
    const { uid = "", generation } = deployment.metadata;
    const made = this.#made.get(uid);
    if (made === undefined || made.generation === generation) return false;
    const now = madeOf(deployment);
    if (!isDeepStrictEqual(now.spec, made.spec)) return true;
    this.#made.set(uid, now);
    return false;
  }

  #templatesOf(
    namespace: string,
    spec: ModelDeploymentSpec,
    problems: string[],
    begins: boolean,
  ): ReadonlyMap<string, AnalysisTemplateSpec> {
    const names = new Set(usesOf(spec).map(({ ref }) => ref.name));
    const templates = new Map<string, AnalysisTemplateSpec>();
    for (const name of names) {
      const [found] = this.#templates.of(`${namespace}/${name}`);
      const read = found === undefined ? undefined : this.#checked(found);
      if (read?.spec === undefined)
        problems.push(`AnalysisTemplate ${name} ${found === undefined ? "is not there" : "cannot be read"}`);
      else templates.set(name, read.spec);
      if (begins)
        problems.push(...(read?.problems ?? []).map((problem) => `AnalysisTemplate ${name} ${problem}`));
    }
    if (begins && problems.length === 0) problems.push(...usageProblems(spec, templates).map(sentence));
    return templates;
  }

  #checked(template: CustomObject): ReadTemplate {
    const known = this.#readTemplates.get(template);
    if (known !== undefined) return known;
    const parsed = analysisTemplateSpec.safeParse(template.spec);
    const read: ReadTemplate = parsed.success
      ? { spec: parsed.data, problems: ruleProblems("AnalysisTemplate", parsed.data).map(sentence) }
      : { spec: undefined, problems: [] };
    this.#readTemplates.set(template, read);
    return read;
  }

  #instrumentsOf(
    namespace: string,
    { instruments = [], instrumentSetRef }: ModelDeploymentSpec,
    problems: string[],
  ): readonly Instrument[] {
    if (instrumentSetRef === undefined) return instruments;
    const { name } = instrumentSetRef;
    const [found] = this.#sets.of(`${namespace}/${name}`);
    const parsed = found === undefined ? undefined : setOf(found);
    if (parsed?.success === true) return parsed.data.instruments;
    problems.push(`InstrumentSet ${name} ${found === undefined ? "is not there" : "cannot be read"}`);
    return [];
  }
}

const sentence = ({ field, message }: Problem) => `${field}: ${message}`;

function keyOf({ namespace, name }: KubeObject["metadata"]): string {
  return `${namespace}/${name}`;
}

/** A Deployment but for its size, which others may set and the core sees to. */
function madeOf({ metadata: { generation }, spec: { replicas: _, ...spec } }: Deployment): Made {
  return { generation, spec };
}

/** Whether a person or a pipeline wants something of an object that has changed: what this operator writes is no such thing. */
function isAsked({ metadata }: CustomObject, before: CustomObject | undefined): boolean {
  const asks = ({ generation, annotations, deletionTimestamp }: ObjectMeta) => ({
    generation,
    command: annotations?.[COMMAND_ANNOTATION],
    deletionTimestamp,
  });
  return before === undefined || !isDeepStrictEqual(asks(metadata), asks(before.metadata));
}

/** Of the ModelDeployment that a Deployment or a pod belongs to. */
function ownerKey({ metadata }: KubeObject): string {
  return `${metadata.namespace}/${metadata.labels?.[LABELS.deployment]}`;
}

/** Without who has written which field: half of an object, and nobody here looks at it. */
function withoutManagers<T extends KubeObject>(object: T): T {
  const { managedFields: _, ...metadata } = object.metadata as ObjectMeta & {
    readonly managedFields?: unknown;
  };
  return { ...object, metadata };
}

/** Without what nobody here looks at, which is most of it. */
function partOf(pod: Pod): Pod {
  const { metadata, status } = pod;
  const problem = problemOf(pod);
  return {
    metadata: withoutManagers({ metadata }).metadata,
    status: {
      ...(problem === undefined ? {} : { problem }),
      conditions: (status?.conditions ?? []).filter(({ type }) => type === "Ready"),
      containerStatuses: (status?.containerStatuses ?? []).map(({ restartCount, state }) => ({
        restartCount,
        ...(state?.running === undefined ? {} : { state: { running: state.running } }),
      })),
    },
  };
}

function isReady({ status }: Pod): boolean {
  return (
    status?.conditions?.some((condition) => condition.type === "Ready" && condition.status === "True") ===
    true
  );
}

function isSame(pod: Pod, before: Pod): boolean {
  const looks = ({ metadata, status }: Pod) => {
    const { labels, annotations, deletionTimestamp } = metadata;
    return { labels, annotations, deletionTimestamp, status };
  };
  return isDeepStrictEqual(looks(pod), looks(before));
}

/** How long a revision has been up, or down. */
function times(
  { status }: Deployment,
  pods: readonly Pod[],
): Pick<RevisionView, "readySince" | "crashedAt" | "downSince"> {
  const ready = pods.filter(isReady).flatMap(({ status }) => status?.conditions ?? []);
  const again = pods.flatMap(({ status }) =>
    (status?.containerStatuses ?? []).flatMap(({ restartCount, state }) =>
      restartCount > 0 ? [{ lastTransitionTime: state?.running?.startedAt }] : [],
    ),
  );
  const down = (status?.conditions ?? []).filter(
    ({ type, status }) => type === "Available" && status === "False",
  );
  const unready = pods.filter((pod) => !isReady(pod)).flatMap(({ status }) => status?.conditions ?? []);
  // Not since it had too few: since the last one has gone.
  const downSince = down.length === 0 ? undefined : latest([...down, ...unready]);
  return { readySince: latest(ready), crashedAt: latest(again), downSince };
}

function latest(of: readonly { readonly lastTransitionTime?: string | undefined }[]): number | undefined {
  const times = of.flatMap(({ lastTransitionTime: at }) => (at === undefined ? [] : [Date.parse(at)]));
  return times.length === 0 ? undefined : Math.max(...times);
}

/** A look at an object of which there is one as long as it is not changed. */
function once<T>(look: (spec: unknown) => T): (object: CustomObject) => T {
  const known = new WeakMap<CustomObject, T>();
  return (object) => {
    const before = known.get(object) ?? look(object.spec);
    known.set(object, before);
    return before;
  };
}

const setOf = once((spec) => instrumentSetSpec.safeParse(spec));

/** Fields of a status that can be made anew from the rest, or that are for people only. */
const MADE_ANEW: ReadonlySet<string> = new Set<keyof ModelDeploymentStatus>([
  ...(["phase", "message", "conditions", "assignments", "weight", "notes", "published", "replicas"] as const),
  ...(["selector", "observedGeneration"] as const),
]);

/**
 * A status as it was written, by whomever: texts that are too long for us are cut, and what cannot be read is left out where it
 * is only said again.
 */
function readStatus(written: unknown): ModelDeploymentStatus {
  let rest = withCutTexts(written) as Readonly<Record<string, unknown>>;
  for (;;) {
    const parsed = modelDeploymentStatus.safeParse(rest);
    if (parsed.success) return parsed.data;
    const [issue] = parsed.error.issues;
    const field = String(issue?.path[0]);
    if (!MADE_ANEW.has(field) || !(field in rest))
      throw new ApiError("Invalid", 0, `status.${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""}`);
    const { [field]: _, ...others } = rest;
    rest = others;
  }
}
