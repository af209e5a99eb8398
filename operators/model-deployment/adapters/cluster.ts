import type { Api, KubeObject } from "#operators/controller-kit/api.ts";
import { ApiError } from "#operators/controller-kit/errors.ts";
import type { ModelDeploymentStatus } from "../api/status.ts";
import type { Effect } from "../core/observed.ts";
import { DISRUPTION_BUDGETS, type DisruptionBudget, disruptionBudgetOf, instead } from "./budget.ts";
import {
  ANNOTATIONS,
  DEPLOYMENTS,
  type Deployment,
  deploymentName,
  deploymentOf,
  epochAnnotation,
} from "./deployment.ts";
import { type CustomObject, MODEL_DEPLOYMENTS, type Seen } from "./view.ts";

// What a pass writes to the API server. Each write resolves with the object as it is now.

export class Cluster {
  readonly #api: Api;
  readonly #epoch: number | undefined;

  /** `epoch` counts leading operators; what is written carries it. */
  constructor(api: Api, epoch?: number) {
    this.#api = api;
    this.#epoch = epoch;
  }

  writeStatus({ metadata }: KubeObject, status: ModelDeploymentStatus): Promise<CustomObject> {
    const { name, namespace = "" } = metadata;
    const epoch = this.#epoch === undefined ? {} : { epoch: this.#epoch };
    const object = { metadata: { name, namespace }, status: { ...status, ...epoch } };
    return this.#api.apply<CustomObject>(MODEL_DEPLOYMENTS, { ...object, spec: undefined }, "status");
  }

  /** undefined where there was nothing to do. */
  async scale(
    { object, spec, revisions }: Seen,
    { template, replicas, revision }: Effect & { kind: "Scale" },
  ): Promise<Deployment | undefined> {
    const isThere = revisions.some((view) => view.revision === revision);
    if (template === "spec") {
      return this.#api.apply(DEPLOYMENTS, deploymentOf(object, spec, replicas, this.#epoch));
    }
    // One that is not there has nothing to end.
    if (replicas === 0 && !isThere) return undefined;
    return this.#merge(object, revision, { spec: { replicas } });
  }

  /** Makes a revision's disruption budget, or makes of the one that is there what it should be. */
  async protect({ object, budgets }: Seen, revision: string): Promise<DisruptionBudget> {
    const wanted = disruptionBudgetOf(object, revision);
    const { namespace, name } = wanted.metadata;
    const found = budgets.find(({ metadata }) => metadata.name === name);
    // Others' fields stay where it is applied, and `minAvailable` beside ours is refused.
    if (found !== undefined)
      return this.#api.merge(DISRUPTION_BUDGETS, namespace, name, {
        metadata: { labels: wanted.metadata.labels },
        spec: instead(found.spec, wanted.spec),
      });
    try {
      return await this.#api.apply(DISRUPTION_BUDGETS, wanted);
    } catch (error) {
      // One of this name that is not labelled as ours.
      if (!(error instanceof ApiError && error.kind === "Invalid")) throw error;
      await this.#api.delete(DISRUPTION_BUDGETS, namespace, name);
      return this.#api.apply(DISRUPTION_BUDGETS, wanted);
    }
  }

  /** Has a revision's pods made anew, as `kubectl rollout restart` does. */
  restart({ object }: Seen, { revision, at }: Effect & { kind: "Restart" }): Promise<Deployment> {
    const annotations = { [ANNOTATIONS.restartedAt]: at };
    return this.#merge(object, revision, { spec: { template: { metadata: { annotations } } } });
  }

  async deleteRevision({ object }: Seen, revision: string): Promise<void> {
    const { name, namespace } = object.metadata;
    const id = deploymentName(name, revision);
    await this.#api.delete(DISRUPTION_BUDGETS, namespace, id);
    await this.#api.delete(DEPLOYMENTS, namespace, id);
  }

  #merge({ metadata }: KubeObject, revision: string, change: object): Promise<Deployment> {
    const { name, namespace = "" } = metadata;
    return this.#api.merge<Deployment>(DEPLOYMENTS, namespace, deploymentName(name, revision), {
      metadata: { annotations: epochAnnotation(this.#epoch) },
      ...change,
    });
  }
}
