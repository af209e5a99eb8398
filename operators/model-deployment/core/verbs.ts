import type { ModelDeploymentSpec } from "../api/model-deployment.ts";
import { type Decision, MAX_APPROVALS, MAX_NAME, type ModelDeploymentStatus } from "../api/status.ts";
import { closedGates, describeGate } from "./gates.ts";
import type { Command, Note, Observed } from "./observed.ts";
import { revisionOf } from "./revision.ts";

// What people ask for. Each command is obeyed once, means one revision, and is answered in status.

type Status = ModelDeploymentStatus;

export interface Obeyed {
  readonly status: Status;
  readonly events: readonly Note[];
  /** What it decides about the candidate. */
  readonly decision?: Omit<Decision, "at">;
}

export function obey({ object, now, revisions, invalid }: Observed): Obeyed {
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
    refusal(command, status, named) ??
    invalidRefusal(command, invalid) ??
    undoRefusal(command, to, status, revisions) ??
    gateRefusal(command, spec, status);
  if (why !== undefined) return answer(`refused: ${why}`);
  const { pausedAt: _, editedAt: ___, ...goesOn } = status;
  switch (verb) {
    case "retry": {
      const { pinned, ...rest } = status;
      const kept = pinned === undefined || pinned.instead === revision ? rest : status;
      return answer("done", {
        ...kept,
        condemned: (status.condemned ?? []).filter((one) => one !== revision),
      });
    }
    case "undo": {
      // Back to what the spec names: then nothing stands in its way.
      const { pinned: __, ...rest } = status;
      const pinned = { revision: to ?? "", instead: named, ...(reason === undefined ? {} : { reason }), at };
      return answer(`done: back to ${to}`, to === named ? rest : { ...status, pinned });
    }
    case "restart":
      return answer("done: its pods are made anew", { ...status, restart: { revision, at } });
    case "pause":
      return answer("done", { ...status, pausedAt: at });
    case "resume":
      return answer("done", goesOn);
    case "promote": {
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
        ...answer("done", goesOn),
        decision: { kind: "Promote", revision, reason: "FullPromotion", message },
      };
    }
    case "abort": {
      // It beats everything: also a promotion that has been decided.
      const { decision, ...undecided } = status;
      if (decision !== undefined && decision.kind !== "Promote") return answer("done: it goes back already");
      const message = "a person has aborted it";
      return {
        ...answer("done", undecided),
        decision: { kind: "Abort", revision, reason: "Aborted", message },
      };
    }
  }
}

/** The revision that was promoted before the stable one; with a candidate, the stable one. */
function previousOf({ stable, candidate, history = [] }: Status): string | undefined {
  if (candidate !== undefined) return stable?.revision;
  return history.find(
    ({ revision, completionStatus }) =>
      revision !== stable?.revision &&
      (completionStatus === "Promoted" || completionStatus === "FastPromoted"),
  )?.revision;
}

function refusal({ verb, revision }: Command, status: Status, named: string): string | undefined {
  const { candidate, stable, condemned = [], decision, pinned } = status;
  if (verb === "retry") {
    if (condemned.includes(revision) || pinned?.instead === revision) return undefined;
    return `${revision} was not rolled back`;
  }
  const current = candidate ?? (verb === "undo" || verb === "restart" ? stable : undefined);
  if (current === undefined) return "nothing is being released";
  if (current.revision !== revision) {
    const what = candidate === undefined ? "is stable" : "is being released";
    return `it means ${revision}, and ${current.revision} ${what}`;
  }
  if (verb === "restart") {
    if (candidate === undefined && decision === undefined) return undefined;
    return `${named} is being released: wait for its end, or abort it`;
  }
  if (decision === undefined || verb === "abort" || verb === "undo") return undefined;
  return decision.kind === "Promote" ? "it is being promoted already" : "it goes back already";
}

/** Nobody gives a release anything by a spec that cannot be acted on. */
function invalidRefusal({ verb }: Command, invalid: string | undefined): string | undefined {
  if (invalid === undefined || (verb !== "promote" && verb !== "promote-full")) return undefined;
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

function undoRefusal(
  { verb }: Command,
  to: string | undefined,
  status: Status,
  revisions: Observed["revisions"],
): string | undefined {
  if (verb !== "undo") return undefined;
  if (to === undefined) return "there is no revision before this one";
  if (to === status.candidate?.revision) return `${to} is being released already`;
  if (to === status.stable?.revision && status.candidate === undefined) return `${to} is stable already`;
  if ((status.condemned ?? []).includes(to)) return `${to} was rolled back: retry it first`;
  if (revisions.some(({ revision }) => revision === to)) return undefined;
  return `the Deployment of ${to} is gone: name its model in the spec again`;
}
