import type { KubeObject } from "#operators/controller-kit/api.ts";
import type { ModelDeploymentStatus } from "#operators/model-deployment/api/status.ts";

// What of a rollback has to get back into Git, and how it is told there; apart from all I/O.

export type ModelDeployment = KubeObject & {
  readonly spec: { readonly model: { readonly digest: string } };
  readonly status?: ModelDeploymentStatus;
};

interface Version {
  readonly revision: string;
  readonly version: string;
  readonly digest: string;
}

export interface Rollback {
  readonly namespace: string;
  readonly name: string;
  /** What was taken back, and what Git still names. */
  readonly bad: Version;
  /** What decides instead. */
  readonly good: Version;
  readonly reason: string;
  readonly evidence: string;
  readonly startedAt: string;
  readonly endedAt: string;
}

/**
 * The rollback that Git does not know of; undefined when there is none, it is not over, or a person is to see to it: what a
 * person aborted, and what differs in something else than the model.
 */
export function rollbackOf({ metadata, spec, status = {} }: ModelDeployment): Rollback | undefined {
  const { stable, candidate, decision, history: [last] = [] } = status;
  if (stable === undefined || last === undefined || candidate !== undefined || decision !== undefined)
    return undefined;
  if (last.completionStatus !== "RolledBack" || last.digest !== spec.model.digest) return undefined;
  if (stable.digest === last.digest) return undefined;
  const { revision, version, digest } = stable;
  return {
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    bad: { revision: last.revision, version: last.version, digest: last.digest },
    good: { revision, version, digest },
    reason: last.reason,
    evidence: last.message ?? "",
    startedAt: last.startedAt,
    endedAt: last.endedAt,
  };
}

/** One line of text: what comes from elsewhere must not be able to begin a trailer of its own. */
const line = (text: string) => text.replace(/\s+/g, " ").trim().slice(0, 500);

/** Subject, a sentence, and trailers that `git log --format='%(trailers)'` reads. */
export function commitMessage(rollback: Rollback, offsets: readonly string[]): string {
  const { namespace, name, bad, good, reason, evidence, startedAt, endedAt } = rollback;
  const trailers: readonly (readonly [string, string])[] = [
    ["Baton-Deployment", `${namespace}/${name}`],
    ["Baton-Revision", bad.revision],
    ["Baton-Model-Digest", bad.digest],
    ["Baton-Stable-Revision", good.revision],
    ["Baton-Reason", reason],
    ["Baton-Evidence", evidence],
    ["Baton-Released-At", startedAt],
    ["Baton-Rolled-Back-At", endedAt],
    ["Baton-Offsets", offsets.join(", ")],
  ];
  const written = trailers
    .filter(([, value]) => value !== "")
    .map(([key, value]) => `${key}: ${line(value)}`);
  return [
    `Take ${name} back from ${bad.version} to ${good.version}`,
    "",
    line(`The operator took it back by itself: ${evidence === "" ? reason : evidence}`),
    "",
    ...written,
    "",
  ].join("\n");
}

/** The branch on which a rollback waits for a person. */
export function branchOf({ name, bad }: Rollback): string {
  return `baton/rollback-${name}-${bad.revision}`;
}
