import type { ModelDeploymentSpec } from "../api/model-deployment.ts";
import { type Decision, MAX_APPROVALS, MAX_NAME, type ModelDeploymentStatus } from "../api/status.ts";
import { closedGates, describeGate } from "./gates.ts";
import { freezeHold } from "./holds.ts";
import type { Command, Note, Observed } from "./observed.ts";
import { desiredRevision, revisionOf } from "./revision.ts";
import { stepsOf } from "./steps.ts";

// What people ask for. Each command is obeyed once, means one revision, and is answered in status.

type Status = ModelDeploymentStatus;

export interface Obeyed {
  readonly status: Status;
  readonly events: readonly Note[];
  /** What it decides about the candidate. */
  readonly decision?: Omit<Decision, "at">;
}

export function obey(observed: Observed): Obeyed {
  const { object, now, invalid } = observed;
  const { command, status, spec } = object;
  if (command === undefined || command.id === status.lastVerb?.id) return { status, events: [] };
  const at = new Date(now).toISOString();
  if ("problem" in command) {
    const { id, verb, problem } = command;
    const result = `refused: ${problem}`;
    return {
      status: { ...status, lastVerb: { id, verb, result, at } },
      events: [{ type: "Normal", reason: "Command", message: `${verb}: ${result}` }],
    };
  }
  const { verb, id, revision, reason } = command;
  const answer = (result: string, changed: Status = status): Obeyed => {
    const why = reason === undefined ? "" : ` (${reason})`;
    const note = (of: string): Note => ({
      type: "Normal",
      reason: of,
      message: `${verb} ${revision}: ${result}${why}`,
    });
    return {
      status: { ...changed, lastVerb: { id, verb, result, at } },
      events: [note("Command"), ...(command.notify === true ? [note("TeamNotice")] : [])],
    };
  };
  const named = revisionOf(spec);
  const to = command.to ?? previousOf(status);
  const why =
    refusal(command, observed) ??
    invalidRefusal(command, invalid) ??
    undoRefusal(command, to, observed) ??
    gateRefusal(command, spec, status);
  if (why !== undefined) return answer(`refused: ${why}`);
  const { pausedAt: _, editedAt: ___, ...goesOn } = status;
  switch (verb) {
    case "retry": {
      if (status.decision?.revision === revision) return retryOnTheWayBack(observed, answer);
      const { pinned, ...rest } = status;
      const kept = pinned === undefined || pinned.instead === revision ? rest : status;
      return answer(`done: ${revision} may be released again`, {
        ...kept,
        condemned: (status.condemned ?? []).filter((one) => one !== revision),
      });
    }
    case "undo": {
      // Back to what the spec names: then nothing stands in its way.
      const { pinned: __, ...rest } = status;
      const pinned = { revision: to ?? "", instead: named, ...(reason === undefined ? {} : { reason }), at };
      const result = `accepted: back to ${to}${untilAlive(observed, to)}`;
      return answer(result, to === named ? rest : { ...status, pinned });
    }
    case "restart":
      return answer("accepted: rolling restart requested", { ...status, restart: { revision, at } });
    case "pause":
      return answer("done", { ...status, pausedAt: at });
    case "resume":
      return answer(spec.paused ? "done: spec.paused still holds it" : "done", goesOn);
    case "promote": {
      if (hasNoStep(observed))
        return answer("refused: it has no step left: promote it fully, or see what it waits for");
      const currentStepIndex = (status.currentStepIndex ?? 0) + 1;
      return answer("done: one step on", {
        ...goesOn,
        currentStepIndex,
        stepStartedAt: at,
        progressedAt: at,
      });
    }
    case "approve": {
      const { gate = "", by = "" } = command;
      const approval = { gate, by, ...(reason === undefined ? {} : { reason }), at };
      const approvals = [...(status.approvals ?? []), approval];
      const all = closedGates(spec.gates ?? [], approvals);
      const closed = all.find((one) => one.gate.name === gate);
      const result = closed === undefined ? `done: ${gate} is open` : `done: ${describeGate(closed)}`;
      // An edit takes all approvals: who has opened every gate has seen what it was edited to.
      const { editedAt: ____, ...looked } = status;
      return answer(result, { ...(all.length === 0 ? looked : status), approvals });
    }
    case "promote-full": {
      const message = "a person has promoted it";
      return {
        ...answer(`accepted: it gets everything${untilHeld(observed)}`, goesOn),
        decision: { kind: "Promote", revision, reason: "FullPromotion", message },
      };
    }
    case "abort": {
      // It beats everything: also a promotion that has been decided.
      const { decision, ...undecided } = status;
      const stable = status.stable?.revision;
      if (decision?.kind === "Rollback" || decision?.kind === "Abort")
        return answer(`accepted: rollback already in progress${untilAlive(observed, stable)}`);
      const message = "a person has aborted it";
      return {
        ...answer(`accepted: everything goes back to ${stable}${untilAlive(observed, stable)}`, undecided),
        decision: { kind: "Abort", revision, reason: "Aborted", message },
      };
    }
  }
}

/** The revision that was promoted before the stable one; with a candidate, the stable one. */
function previousOf({ stable, candidate, history = [] }: Status): string | undefined {
  if (candidate !== undefined) return stable?.revision;
  return promotions(history).find(({ revision }) => revision !== stable?.revision)?.revision;
}

/** It goes back to begin anew: who has said so means the release that is being taken back. */
function retryOnTheWayBack(observed: Observed, answer: (result: string, changed?: Status) => Obeyed): Obeyed {
  const { status } = observed.object;
  const { decision, ...undecided } = status;
  const { pinned, ...unpinned } = undecided;
  const { revision = "", message: why = "" } = decision ?? {};
  const kept = pinned?.instead === revision ? unpinned : undecided;
  const message = `a person tries it again after: ${why}`.slice(0, 1024);
  return {
    ...answer(`accepted: it begins anew when ${status.stable?.revision} has everything, or is lost`, kept),
    decision: { kind: "Supersede", revision, reason: "Retry", message },
  };
}

/** Whether all steps of the candidate are behind it. What a person goes back to takes none. */
function hasNoStep({ object, instruments }: Observed): boolean {
  const { pinned, candidate, currentStepIndex = 0 } = object.status;
  if (pinned !== undefined && pinned.revision === candidate?.revision) return true;
  return currentStepIndex >= stepsOf(object.spec, instruments).length;
}

/** What an answer adds where a revision cannot take over yet. */
function untilAlive({ object, revisions }: Observed, to: string | undefined): string {
  if (object.status.stable?.revision !== to) return "";
  const isAlive = revisions.some(({ revision, available }) => revision === to && available > 0);
  return isAlive ? "" : ", as soon as it has a replica";
}

/** What an answer adds where a promotion is held. */
function untilHeld({ object, now }: Observed): string {
  const { spec } = object;
  if (spec.paused) return ", when spec.paused is false";
  if (spec.replicas === 0) return ", when spec.replicas is not 0";
  const frozen = freezeHold(spec, now);
  return frozen === undefined ? "" : `, but ${frozen.hold.message}`;
}

/** Verbs that still mean something of a promotion that is decided. */
const WHILE_PROMOTED: readonly string[] = ["pause", "resume", "approve", "abort", "undo"];

function refusal({ verb, revision }: Command, observed: Observed): string | undefined {
  const { object, revisions } = observed;
  const { status, spec } = object;
  const { candidate, stable, decision } = status;
  if (verb === "retry") return retryRefusal(revision, observed);
  const current = candidate ?? (verb === "undo" || verb === "restart" ? stable : undefined);
  if (current === undefined) return "nothing is being released";
  if (current.revision !== revision) {
    const what = candidate === undefined ? "is stable" : "is being released";
    return `it means ${revision}, and ${current.revision} ${what}`;
  }
  if (verb === "restart") {
    if (candidate === undefined && decision === undefined) return undefined;
    return `${desiredRevision(spec, status)} is being released: wait for its end, or abort it`;
  }
  if (verb === "resume" && status.pausedAt === undefined && status.editedAt === undefined)
    return spec.paused ? "spec.paused holds it" : "no person has paused it";
  if (decision === undefined || verb === "abort" || verb === "undo") return undefined;
  if (decision.kind === "Promote")
    return WHILE_PROMOTED.includes(verb) ? undefined : "it is being promoted already";
  if (revisions.some((view) => view.revision === stable?.revision && view.available > 0))
    return "it goes back already";
  const ways = `name another revision in the spec, undo to ${reachable(observed) || "none"}, or retry it`;
  return `it goes back, and ${stable?.revision} has no replica: ${ways}`;
}

function retryRefusal(revision: string, { object }: Observed): string | undefined {
  const { decision, condemned = [], pinned } = object.status;
  if (condemned.includes(revision) || pinned?.instead === revision) return undefined;
  const isGoing = decision !== undefined && decision.kind !== "Promote" && decision.revision === revision;
  if (isGoing) return undefined;
  const known = [...condemned.slice(-MAX_NAMED), ...(pinned === undefined ? [] : [pinned.instead])];
  return `${revision} was not rolled back; ${known.length === 0 ? "none was" : `these were: ${known.join(", ")}`}`;
}

/** What a spec that cannot be acted on keeps from being done. */
const NEEDS_SPEC: readonly Command["verb"][] = ["promote", "promote-full", "restart"];

/** Nobody gives a release anything by a spec that cannot be acted on, or would say that pods are made anew. */
function invalidRefusal({ verb }: Command, invalid: string | undefined): string | undefined {
  if (invalid === undefined || !NEEDS_SPEC.includes(verb)) return undefined;
  return `the spec cannot be acted on: ${invalid}`;
}

/** A gate takes one approval of a person; and nobody gives a release anything past a gate that is closed. */
function gateRefusal(
  { verb, gate, by }: Command,
  { gates = [] }: ModelDeploymentSpec,
  { approvals = [] }: Status,
): string | undefined {
  if (verb === "promote-full" || verb === "promote") {
    const all = closedGates(gates, approvals);
    // One before the promotion holds wherever the steps have got to.
    const closed = all.find((one) => verb === "promote-full" || one.gate.before === "Start");
    return closed === undefined ? undefined : `it ${describeGate(closed)}`;
  }
  if (verb !== "approve") return undefined;
  if (by === undefined || by === "") return "it does not say who approves";
  if (by.length > MAX_NAME) return `by: a name has at most ${MAX_NAME} characters`;
  if (!gates.some(({ name }) => name === gate)) {
    const known = gates.map(({ name }) => name).join(", ");
    return `there is no gate ${gate ?? ""}; its gates: ${known || "none"}`;
  }
  if (approvals.some((one) => one.gate === gate && one.by === by)) return `${by} has approved it already`;
  if (!closedGates(gates, approvals).some((one) => one.gate.name === gate)) return `${gate} is open already`;
  return approvals.length < MAX_APPROVALS ? undefined : `it has had ${MAX_APPROVALS} approvals already`;
}

/** As many as an answer names. */
const MAX_NAMED = 4;

/** Revisions that one can go back to: promoted once, not condemned, with a Deployment; the newest first. */
function reachable({ object, revisions }: Observed): string {
  const { stable, candidate, history = [], condemned = [] } = object.status;
  const known = new Map(candidate === undefined ? [] : [[stable?.revision, stable?.version]]);
  for (const { revision, version } of promotions(history))
    if (!known.has(revision)) known.set(revision, version);
  if (candidate === undefined) known.delete(stable?.revision);
  return [...known]
    .filter(([one = ""]) => one !== candidate?.revision && !condemned.includes(one))
    .filter(([one]) => revisions.some(({ revision }) => revision === one))
    .slice(0, MAX_NAMED)
    .map(([revision, version]) => `${revision} (${version})`)
    .join(", ");
}

function promotions(history: NonNullable<Status["history"]>): NonNullable<Status["history"]> {
  return history.filter(
    ({ completionStatus }) => completionStatus === "Promoted" || completionStatus === "FastPromoted",
  );
}

function undoRefusal({ verb }: Command, to: string | undefined, observed: Observed): string | undefined {
  if (verb !== "undo") return undefined;
  const why = unreachable(to, observed);
  if (why === undefined) return undefined;
  const ways = reachable(observed);
  return `${why}; it can go back to ${ways || "none"}`;
}

function unreachable(to: string | undefined, { object, revisions }: Observed): string | undefined {
  const { stable, candidate, history = [], condemned = [], pinned } = object.status;
  if (to === undefined) return "there is no revision before this one";
  if (to === candidate?.revision) return `${to} is being released already`;
  if (to === stable?.revision) return candidate === undefined ? `${to} is stable already` : undefined;
  if (condemned.includes(to)) return `${to} was rolled back: retry it first`;
  if (to === pinned?.instead) return undefined;
  if (!revisions.some(({ revision }) => revision === to)) return `the Deployment of ${to} is gone`;
  return promotions(history).some(({ revision }) => revision === to) ? undefined : `${to} was never promoted`;
}
