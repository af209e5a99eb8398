import { createHash } from "node:crypto";
import type { ModelDeploymentSpec } from "../api/model-deployment.ts";
import type { Decision, ModelDeploymentStatus } from "../api/status.ts";
import type { Effect, Observed } from "./observed.ts";

/** What a revision is made of: a change of any of it makes another one. */
export function configurationOf({ model, template, stream }: ModelDeploymentSpec): unknown {
  // The version is for people; what is meant is the digest.
  const { name, uri, digest, format, featureView } = model;
  return { model: { name, uri, digest, format, featureView }, template, topics: stream?.topics };
}

/** Several are asked for with each look at a spec. */
const hashes = new WeakMap<ModelDeploymentSpec, string>();

/** Hash of a revision's configuration: what its replicas have to report. A spec that was read is never changed. */
export function configurationHash(spec: ModelDeploymentSpec): string {
  const known = hashes.get(spec);
  if (known !== undefined) return known;
  const hash = createHash("sha256")
    .update(canonical(configurationOf(spec)))
    .digest("hex");
  hashes.set(spec, hash);
  return hash;
}

/** Name of the revision that a spec describes. */
export function revisionOf(spec: ModelDeploymentSpec): string {
  return `r-${configurationHash(spec).slice(0, 10)}`;
}

/** JSON with the fields in order, without those that are undefined. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value)
      .filter(([, entry]) => entry !== undefined)
      .toSorted(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([key, entry]) => `${JSON.stringify(key)}:${canonical(entry)}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

/** Where the spec describes another revision than this one, this one's own template is kept. */
export function templateOf(spec: ModelDeploymentSpec, revision: string): "spec" | "own" {
  return revision === revisionOf(spec) ? "spec" : "own";
}

/** Stable gets so many replicas; nothing where it has them, or its Deployment is gone and nobody says how to make it. */
export function scaleStable({ object, revisions }: Observed, stable: string, replicas: number): Effect[] {
  const view = revisions.find(({ revision }) => revision === stable);
  const template = view === undefined ? "spec" : "own";
  if (view?.replicas === replicas || (view === undefined && templateOf(object.spec, stable) === "own"))
    return [];
  return [{ kind: "Scale", revision: stable, replicas, template }];
}

/** The revision that is to decide: the spec's, unless a person has undone that one. */
export function desiredRevision(spec: ModelDeploymentSpec, { pinned }: ModelDeploymentStatus): string {
  const named = revisionOf(spec);
  return pinned?.instead === named ? pinned.revision : named;
}

/** Why a candidate is no longer what is asked for; undefined while it is, or where what is asked for cannot be made out. */
export function overtaken(
  observed: Observed,
  status: ModelDeploymentStatus,
  candidate: string,
): string | undefined {
  const desired = desiredRevision(observed.object.spec, status);
  if (desired === candidate) return undefined;
  if (desired === status.pinned?.revision) return "a person has undone it";
  if (observed.invalid !== undefined) return undefined;
  return desired === status.stable?.revision ? "the spec has gone back" : "a newer release has come";
}

/** Whether something else than stable is asked for, and may be tried. */
export function hasFix(
  { object, invalid }: Observed,
  status: ModelDeploymentStatus,
  { kind, revision }: Decision,
): boolean {
  const { pinned, stable, condemned = [] } = status;
  const desired = desiredRevision(object.spec, status);
  if (invalid !== undefined && desired !== pinned?.revision) return false;
  if (desired === stable?.revision || condemned.includes(desired)) return false;
  return desired !== revision || kind === "Supersede";
}
