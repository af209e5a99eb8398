import { type ConditionNow, mergeConditions } from "#operators/controller-kit/conditions.ts";
import type { ModelDeploymentStatus, Phase } from "../api/status.ts";
import type { Observed } from "./observed.ts";
import type { Hold } from "./release.ts";
import { desiredRevision } from "./revision.ts";

// Conditions, then the phase and a sentence for people: computed last, from all the rest.

type Status = ModelDeploymentStatus;

/** Whether a pause, which no deadline counts, was what the pass before stood at. */
export function wasPaused({ conditions = [] }: Status): boolean {
  return conditions.some(({ type, status }) => type === "Paused" && status === "True");
}

export function phaseAndConditions(observed: Observed, status: Status, holds: Hold | undefined): Status {
  const { now, object } = observed;
  const [phase, message] = phaseOf(observed, status, holds);
  const conditions = mergeConditions(
    status.conditions ?? [],
    conditionsOf(observed, status, holds, phase, message),
    object.generation,
    now,
  );
  return { ...status, phase, message, conditions };
}

function phaseOf(
  { object, invalid, revisions }: Observed,
  status: Status,
  holds: Hold | undefined,
): readonly [Phase, string] {
  if (invalid !== undefined) return ["Degraded", invalid];
  const { candidate, stable, decision } = status;
  if (decision !== undefined) {
    const what = { Promote: "promotes", Rollback: "rolls back", Abort: "aborts", Supersede: "takes back" }[
      decision.kind
    ];
    return [
      "Progressing",
      `${what} ${decision.revision}: ${decision.message}${holds === undefined ? "" : ` (${holds.message})`}`,
    ];
  }
  if (stable === undefined) return ["Pending", holds?.message ?? "the first revision is being made"];
  if (candidate !== undefined) {
    const where = `${candidate.revision}, step ${status.currentStepIndex ?? 0}`;
    const message = `${where}: ${holds?.message ?? "goes on"}`;
    return [holds?.paused === true ? "Paused" : "Progressing", message];
  }
  const desired = desiredRevision(object.spec, status);
  if (desired !== stable.revision && (status.condemned ?? []).includes(desired)) {
    const entry = status.history?.find(({ revision }) => revision === desired);
    return ["Degraded", `${desired} is not tried again: ${entry?.message ?? "it was rolled back"}`];
  }
  if (stable.available < object.spec.replicas) {
    return ["Progressing", `${stable.available} of ${object.spec.replicas} replicas are available`];
  }
  const deviation = revisions.find(({ revision }) => revision === stable.revision)?.deviation;
  if (deviation !== undefined) return ["Degraded", `${stable.revision}: ${deviation}`];
  const { pinned } = status;
  if (pinned !== undefined && pinned.revision === stable.revision) {
    const why = pinned.reason === undefined ? "" : `: ${pinned.reason}`;
    return ["Degraded", `${pinned.instead} was undone${why}; ${stable.revision} decides on everything`];
  }
  return ["Healthy", `${stable.revision} (model ${stable.version}) decides on everything`];
}

function conditionsOf(
  { object, invalid, stream }: Observed,
  status: Status,
  holds: Hold | undefined,
  phase: Phase,
  message: string,
): readonly ConditionNow[] {
  const is = (type: string, yes: boolean, reason: string, text = ""): ConditionNow => ({
    type,
    status: yes ? "True" : "False",
    reason,
    message: text,
  });
  const { stable, candidate, decision, analysis = [] } = status;
  const available = stable !== undefined && stable.available >= Math.min(1, object.spec.replicas);
  const bad = analysis.find(({ phase: of }) => of === "Failed" || of === "Inconclusive");
  const streamReason =
    stream === undefined
      ? "NoStream"
      : stream.reachable
        ? stream.halted
          ? "Halted"
          : "Reachable"
        : "KafkaUnavailable";
  return [
    is("Ready", phase === "Healthy", phase, message),
    is(
      "Progressing",
      candidate !== undefined || stable === undefined || decision !== undefined,
      holds?.reason ?? phase,
      message,
    ),
    is("Available", available, available ? "MinimumReplicas" : "NoReplica"),
    is(
      "Paused",
      holds?.paused === true,
      holds?.paused === true ? holds.reason : "NotPaused",
      holds?.paused === true ? holds.message : "",
    ),
    is(
      "Completed",
      candidate === undefined &&
        stable !== undefined &&
        stable.revision === desiredRevision(object.spec, status),
      phase,
    ),
    is("Healthy", phase === "Healthy", phase),
    is("InvalidSpec", invalid !== undefined, invalid === undefined ? "Valid" : "Invalid", invalid),
    is("AnalysisPassing", bad === undefined, bad === undefined ? "NothingBad" : bad.phase, bad?.name),
    is("StreamReady", stream === undefined || (stream.reachable && !stream.halted), streamReason),
  ];
}
