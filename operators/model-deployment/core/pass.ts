import type { Decision, ModelDeploymentStatus } from "../api/status.ts";
import type { Hold } from "./holds.ts";
import type { Effect, Note, Observed } from "./observed.ts";
import { time } from "./report.ts";

type Status = ModelDeploymentStatus;

/** A pass in the making. */
export interface Pass {
  readonly status: Status;
  readonly effects: readonly Effect[];
  readonly events: readonly Note[];
  readonly due: readonly number[];
  readonly holds: Hold | undefined;
}

/** Writes down what a release has come to. It is acted on from the next pass on: what is written cannot be forgotten. */
export function decided({ now }: Observed, status: Status, decision: Omit<Decision, "at">): Pass {
  const type = decision.kind === "Promote" ? "Normal" : "Warning";
  const message = `${decision.revision}: ${decision.message}`;
  return {
    status: { ...status, decision: { ...decision, at: time(now) } },
    effects: [],
    events: [{ type, reason: decision.reason, message }],
    due: [now],
    holds: undefined,
  };
}
