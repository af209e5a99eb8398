import { isDeepStrictEqual } from "node:util";
import type { KubeObject, Resource } from "#operators/controller-kit/api.ts";
import type { RevisionView } from "../core/observed.ts";
import { deploymentName, LABELS, ownerReference } from "./deployment.ts";

// A revision's disruption budget: how it is made, and what is wrong with one that others have changed.

export const DISRUPTION_BUDGETS: Resource = {
  group: "policy",
  version: "v1",
  plural: "poddisruptionbudgets",
  kind: "PodDisruptionBudget",
};

export interface DisruptionBudget extends KubeObject {
  readonly spec?: Readonly<Record<string, unknown>>;
}

/**
 * Keeps all but one of a revision's pods where nodes are drained. It never blocks for ever: of a single replica the one may go,
 * and a pod that is not ready is no protection, so that one that crashes again and again holds up no node (ADR 40).
 */
export function disruptionBudgetOf(owner: KubeObject, revision: string): DisruptionBudget {
  const { name, namespace = "" } = owner.metadata;
  const own = { [LABELS.deployment]: name, [LABELS.revision]: revision };
  return {
    metadata: {
      name: deploymentName(name, revision),
      namespace,
      labels: { ...own, "app.kubernetes.io/managed-by": "baton" },
      ownerReferences: [ownerReference(owner)],
    },
    spec: {
      maxUnavailable: 1,
      selector: { matchLabels: own },
      unhealthyPodEvictionPolicy: "AlwaysAllow",
    },
  };
}

/** Without its status, which nobody here looks at. */
export function specOnly({ metadata, spec }: DisruptionBudget): DisruptionBudget {
  return { metadata, ...(spec === undefined ? {} : { spec }) };
}

/** What is wrong with a revision's. */
export function budgetProblem(
  budgets: readonly DisruptionBudget[],
  owner: KubeObject,
  revision: string,
): RevisionView["budget"] {
  const wanted = disruptionBudgetOf(owner, revision);
  const found = budgets.find(({ metadata }) => metadata.name === wanted.metadata.name);
  if (found === undefined) return "missing";
  return isDeepStrictEqual(found.spec, wanted.spec) ? undefined : "changed";
}

/** The merge patch that makes one value of another: what is not wanted is taken away. */
export function instead(is: unknown, wanted: unknown): unknown {
  if (!isObject(is) || !isObject(wanted)) return wanted;
  const gone = Object.keys(is).filter((key) => !(key in wanted));
  return Object.fromEntries([
    ...gone.map((key) => [key, null]),
    ...Object.entries(wanted).map(([key, value]) => [key, instead(is[key], value)]),
  ]);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
