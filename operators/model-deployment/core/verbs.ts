import type { Decision, ModelDeploymentStatus } from "../api/status.ts";
import type { Command, Note } from "./observed.ts";

// What people ask for. Each command is obeyed once, means one revision, and is answered in status.

type Status = ModelDeploymentStatus;

export interface Obeyed {
  readonly status: Status;
  readonly events: readonly Note[];
  /** What it decides about the candidate. */
  readonly decision?: Omit<Decision, "at">;
}

export function obey(command: Command | undefined, status: Status, now: number): Obeyed {
  if (command === undefined || command.id === status.lastVerb?.id) return { status, events: [] };
  const { verb, id, revision } = command;
  const at = new Date(now).toISOString();
  const answer = (result: string, changed: Status = status): Obeyed => ({
    status: { ...changed, lastVerb: { id, verb, result, at } },
    events: [{ type: "Normal", reason: "Command", message: `${verb} ${revision}: ${result}` }],
  });
  const why = refusal(command, status);
  if (why !== undefined) return answer(`refused: ${why}`);
  const { pausedAt: _, ...unpaused } = status;
  switch (verb) {
    case "retry":
      return answer("done", {
        ...status,
        condemned: (status.condemned ?? []).filter((one) => one !== revision),
      });
    case "pause":
      return answer("done", { ...status, pausedAt: at });
    case "resume":
      return answer("done", unpaused);
    case "promote": {
      const currentStepIndex = (status.currentStepIndex ?? 0) + 1;
      return answer("done: one step on", {
        ...unpaused,
        currentStepIndex,
        stepStartedAt: at,
        progressedAt: at,
      });
    }
    case "promote-full": {
      const message = "a person has promoted it";
      return {
        ...answer("done", unpaused),
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

function refusal(
  { verb, revision }: Command,
  { candidate, condemned = [], decision }: Status,
): string | undefined {
  if (verb === "retry") return condemned.includes(revision) ? undefined : `${revision} was not rolled back`;
  if (candidate === undefined) return "nothing is being released";
  if (candidate.revision !== revision)
    return `it means ${revision}, and ${candidate.revision} is being released`;
  if (decision === undefined || verb === "abort") return undefined;
  return decision.kind === "Promote" ? "it is being promoted already" : "it goes back already";
}
