import { createHash } from "node:crypto";
import type { ModelDeploymentSpec } from "../api/model-deployment.ts";
import type { ModelDeploymentStatus } from "../api/status.ts";

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

/** The revision that is to decide: the spec's, unless a person has undone that one. */
export function desiredRevision(spec: ModelDeploymentSpec, { pinned }: ModelDeploymentStatus): string {
  const named = revisionOf(spec);
  return pinned?.instead === named ? pinned.revision : named;
}
