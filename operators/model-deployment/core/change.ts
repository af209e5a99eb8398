import { isDeepStrictEqual } from "node:util";
import type { ModelDeploymentStatus } from "../api/status.ts";

/** What says no more than how far things have come: it may wait, for more of it to be written at once. */
const PROGRESS: ReadonlySet<string> = new Set<keyof ModelDeploymentStatus>([
  "message",
  "conditions",
  "stable",
  "candidate",
  "replicas",
]);

/**
 * What is new in a status: nothing, progress only, or something that others or a later look go by. The one before is as it
 * was read.
 */
export function changeOf(
  before: ModelDeploymentStatus,
  after: ModelDeploymentStatus,
): "nothing" | "progress" | "decisive" {
  const a: Readonly<Record<string, unknown>> = before;
  const b = plain(after);
  const changed = [...new Set([...Object.keys(a), ...Object.keys(b)])].filter(
    (name) => !isDeepStrictEqual(a[name], b[name]),
  );
  if (changed.length === 0) return "nothing";
  return changed.every((name) => PROGRESS.has(name)) ? "progress" : "decisive";
}

/** As it will come back from the API server. */
function plain(status: ModelDeploymentStatus): Readonly<Record<string, unknown>> {
  return JSON.parse(JSON.stringify(status)) as Readonly<Record<string, unknown>>;
}
