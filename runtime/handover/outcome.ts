import type { Headers, OutRecord, Position } from "#runtime/bus/port.ts";

/** What a decision is made from, who made it, and what became of it; in every outcome's headers. */
export const OUTCOME_HEADER = {
  /** topic/partition/offset of the input record. */
  input: "baton-input",
  instrument: "baton-instrument",
  revision: "baton-revision",
  model: "baton-model",
  /** Epoch of the request by which the revision owned; only on live outcomes. */
  epoch: "baton-epoch",
  /** decision or rejected. */
  kind: "baton-outcome",
  /** live, shadow or withheld. */
  action: "baton-action",
} as const;

export type Action = "live" | "shadow" | "withheld";
export type OutcomeKind = "decision" | "rejected";

/** What a model made of one input record: exactly one for each. */
export interface Outcome {
  readonly input: Position;
  /** Whose owner decides on it: the instrument of the message, or the record's key where there is none. */
  readonly instrument: string;
  readonly kind: OutcomeKind;
  readonly key: string | undefined;
  readonly value: Buffer | null;
  readonly headers: Headers;
}

export interface Destinations {
  readonly live: string;
  readonly shadow: string;
  readonly deadLetters: string;
  readonly shadowPartitions: number;
}

/** Where an outcome goes: live decisions and rejections to their topics, everything else to the shadow topic. */
export function outcomeRecord(
  outcome: Outcome,
  action: Action,
  epoch: number | undefined,
  to: Destinations,
): OutRecord {
  const { kind, key, value, input } = outcome;
  const headers: Record<string, string> = {
    ...outcome.headers,
    [OUTCOME_HEADER.kind]: kind,
    [OUTCOME_HEADER.action]: action,
  };
  if (epoch !== undefined && action !== "shadow") headers[OUTCOME_HEADER.epoch] = String(epoch);
  const rest = { ...(key === undefined ? {} : { key }), value, headers };
  if (action !== "live") {
    return { topic: to.shadow, partition: input.partition % to.shadowPartitions, ...rest };
  }
  return { topic: kind === "decision" ? to.live : to.deadLetters, ...rest };
}

/** An outcome as it was read from a topic. */
export interface ReadOutcome {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  readonly instrument: string;
  readonly revision: string;
  readonly epoch: number | undefined;
  readonly kind: OutcomeKind;
  readonly action: Action;
}

/** What the headers of an outcome say; undefined when the record is none. */
export function parseOutcome(headers: Headers): ReadOutcome | undefined {
  const input = headers[OUTCOME_HEADER.input] ?? "";
  const offsetAt = input.lastIndexOf("/");
  const partitionAt = input.lastIndexOf("/", offsetAt - 1);
  const revision = headers[OUTCOME_HEADER.revision];
  const kind = headers[OUTCOME_HEADER.kind];
  const action = headers[OUTCOME_HEADER.action];
  const offset = input.slice(offsetAt + 1);
  const partition = input.slice(partitionAt + 1, offsetAt);
  if (partitionAt < 1 || !/^\d{1,19}$/.test(offset) || !/^\d{1,9}$/.test(partition)) return undefined;
  if (revision === undefined || (kind !== "decision" && kind !== "rejected")) return undefined;
  if (action !== "live" && action !== "shadow" && action !== "withheld") return undefined;
  const epoch = headers[OUTCOME_HEADER.epoch];
  if (epoch !== undefined && !/^-?\d{1,15}$/.test(epoch)) return undefined;
  return {
    topic: input.slice(0, partitionAt),
    partition: Number(partition),
    offset: BigInt(offset),
    instrument: headers[OUTCOME_HEADER.instrument] ?? "",
    revision,
    epoch: epoch === undefined ? undefined : Number(epoch),
    kind,
    action,
  };
}
