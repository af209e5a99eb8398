import { type ConditionNow, mergeConditions } from "#operators/controller-kit/conditions.ts";
import { REST } from "#runtime/contracts/ledger.ts";
import type { ModelDeploymentStatus, Phase } from "../api/status.ts";
import { because, type Hold } from "./holds.ts";
import type { Observed } from "./observed.ts";
import { desiredRevision } from "./revision.ts";

// Conditions, then the phase and a sentence for people: computed last, from all the rest.

type Status = ModelDeploymentStatus;

/** Whether a pause, which no deadline counts, was what the pass before stood at. */
export function wasPaused({ conditions = [] }: Status): boolean {
  return conditions.some(({ type, status }) => type === "Paused" && status === "True");
}

export function phaseAndConditions(observed: Observed, status: Status, holds: Hold | undefined): Status {
  const { now, object } = observed;
  const nobody = nobodyDecides(observed, status);
  const [phase, said] = phaseOf(observed, status, holds);
  const isSaid = nobody === undefined || status.stable === undefined || said.includes("nobody decides");
  const message = isSaid ? said : `${said}; ${nobody}`;
  const conditions = mergeConditions(
    status.conditions ?? [],
    conditionsOf(observed, status, holds, [phase, message, nobody]),
    object.generation,
    now,
  );
  return { ...status, phase, message: message.slice(0, 2048), conditions };
}

/** Who has to decide on something and has no replica that could: on that nobody decides. */
function nobodyDecides({ object, revisions, stream }: Observed, status: Status): string | undefined {
  const { stable, assignments = [] } = status;
  const isAlive = (of: string) =>
    revisions.some(({ revision, available }) => revision === of && available > 0);
  const why = (of: string) => because(revisions.find(({ revision }) => revision === of));
  if (object.spec.replicas === 0 && !revisions.some(({ available }) => available > 0))
    return "nobody decides: spec.replicas is 0";
  // Without a stream whoever is ready is asked.
  if (stream === undefined || assignments.length === 0) {
    const isAsked = ({ revision }: { revision: string }) =>
      stream === undefined ? isAlive(revision) : revision === stable?.revision && isAlive(revision);
    if (revisions.some(isAsked)) return undefined;
    return `nobody decides: ${stable?.revision ?? "no revision"} has no available replica${why(stable?.revision ?? "")}`;
  }
  // What has no owner is on its way to one.
  const dead = assignments.filter(({ revision }) => revision !== "" && !isAlive(revision));
  const [first] = dead;
  if (first === undefined) return undefined;
  const keys = dead.flatMap(({ instruments }) => instruments);
  const isAll = dead.length === assignments.filter(({ revision }) => revision !== "").length;
  const names = keys.length > MAX_NAMED ? `${keys.length} instruments` : keys.map(named).join(", ");
  const of = dead.map(({ revision }) => revision).join(" and ");
  return `nobody decides${isAll ? "" : ` on ${names}`}: ${of} has no available replica${why(first.revision)}`;
}

/** As many instruments as a message names. */
const MAX_NAMED = 3;
const named = (key: string) => (key === REST ? "all others" : key);

function phaseOf(observed: Observed, status: Status, holds: Hold | undefined): readonly [Phase, string] {
  const { object, invalid, revisions, stream } = observed;
  if (invalid !== undefined) return ["Degraded", invalid];
  const { candidate, stable, decision } = status;
  if (decision !== undefined) {
    const what = { Promote: "promotes", Rollback: "rolls back", Abort: "aborts", Supersede: "takes back" }[
      decision.kind
    ];
    return [
      holds?.paused === true ? "Paused" : "Progressing",
      `${what} ${decision.revision}: ${decision.message}${holds === undefined ? "" : ` (${holds.message})`}`,
    ];
  }
  if (stable === undefined)
    return [
      holds?.paused === true ? "Paused" : "Pending",
      holds?.message ?? "the first revision is being made",
    ];
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
  const view = revisions.find(({ revision }) => revision === stable.revision);
  if (stable.available < object.spec.replicas) {
    const message = `${stable.available} of ${object.spec.replicas} replicas are available${because(view)}`;
    return ["Progressing", message];
  }
  if (view?.deviation !== undefined) return ["Degraded", `${stable.revision}: ${view.deviation}`];
  // Held by the kill switch, or with no replica that was asked for.
  if (holds?.paused === true) return ["Paused", holds.message];
  const others = (status.assignments ?? []).flatMap(({ revision }) =>
    revision === "" || revision === stable.revision ? [] : [revision],
  );
  if (others.length > 0)
    return ["Progressing", `${stable.revision} gets everything back from ${others.join(", ")}`];
  const decides =
    stream?.reachable === false ? "has everything, and Kafka does not answer" : "decides on everything";
  const { pinned } = status;
  if (pinned !== undefined && pinned.revision === stable.revision) {
    const why = pinned.reason === undefined ? "" : `: ${pinned.reason}`;
    return ["Degraded", `${pinned.instead} was undone${why}; ${stable.revision} ${decides}`];
  }
  return ["Healthy", `${stable.revision} (model ${stable.version}) ${decides}`];
}

function conditionsOf(
  { object, invalid, stream }: Observed,
  status: Status,
  holds: Hold | undefined,
  [phase, message, nobody]: readonly [Phase, string, string | undefined],
): readonly ConditionNow[] {
  const is = (type: string, yes: boolean, reason: string, text = ""): ConditionNow => ({
    type,
    status: yes ? "True" : "False",
    reason,
    message: text,
  });
  const { stable, candidate, decision, analysis = [] } = status;
  const available = stable !== undefined && nobody === undefined;
  const unavailable = object.spec.replicas === 0 ? "ScaledToZero" : "NoReplica";
  const bad = analysis.find(({ phase: of }) => of === "Failed" || of === "Inconclusive");
  const shared = holds?.reason === "SharedCause";
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
    is("Available", available, available ? "MinimumReplicas" : unavailable, nobody),
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
    is(
      "AnalysisPassing",
      bad === undefined && !shared,
      bad?.phase ?? (shared ? "SharedCause" : "NothingBad"),
      bad?.name ?? (shared ? holds.message : ""),
    ),
    is("StreamReady", stream === undefined || (stream.reachable && !stream.halted), streamReason),
  ];
}
