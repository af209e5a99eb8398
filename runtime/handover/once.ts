import type { Batch, Bus, Consumer, InRecord } from "#runtime/bus/port.ts";
import { parseOutcome, type ReadOutcome } from "./outcome.ts";

// For those who act on decisions outside Kafka: each decision once.

/** What identifies a decision wherever it is seen, however often: the deployment and the record that it is about. */
export function decisionId(
  deployment: string,
  { topic, partition, offset }: Pick<ReadOutcome, "topic" | "partition" | "offset">,
): string {
  return `${deployment}/${topic}/${partition}/${offset}`;
}

/** Remembers how far decisions have been applied. */
export interface Marks {
  /** The highest input offset that was applied, by instrument and input partition; undefined before the first. */
  get(key: string): Promise<bigint | undefined>;
  /** Raises a mark; a lower one than the present changes nothing. */
  raise(key: string, offset: bigint): Promise<void>;
}

export interface ApplyOnceOptions {
  readonly bus: Bus;
  readonly deployment: string;
  /** Topic of the decisions: signals.<deployment>. */
  readonly topic: string;
  readonly group: string;
  readonly marks: Marks;
  /**
   * Acts on a decision. Called again for the same one, with the same id, only when the process died between this and
   * the mark: what it calls has to know the id, or be harmless when repeated.
   */
  readonly apply: (record: InRecord, id: string) => Promise<void>;
  readonly onFatal: (error: Error) => void;
}

/**
 * Calls `apply` for each live decision, in order for each instrument. Kafka delivers a decision again after a
 * rebalance or a crash; what a mark says was applied is not applied again. Marks are few, one for an instrument and
 * input partition, because live decisions of an instrument come in the order of their input.
 */
export async function applyOnce(options: ApplyOnceOptions): Promise<Consumer> {
  const { bus, deployment, topic, group, marks, apply, onFatal } = options;
  const known = new Map<string, bigint>();
  const onRecord = async (record: InRecord) => {
    const outcome = parseOutcome(record.headers);
    if (outcome === undefined || outcome.action !== "live") return;
    const key = `${group}/${deployment}/${outcome.topic}/${outcome.partition}/${outcome.instrument}`;
    const mark = known.get(key) ?? (await marks.get(key)) ?? -1n;
    if (outcome.offset > mark) {
      await apply(record, decisionId(deployment, outcome));
      await marks.raise(key, outcome.offset);
      known.set(key, outcome.offset);
    } else known.set(key, mark);
  };
  let consumer: Consumer | undefined;
  consumer = await bus.consumer({
    group,
    topics: [topic],
    from: "earliest",
    // What another member applied meanwhile is looked up again.
    onRevoked: () => known.clear(),
    onBatch: async ({ topic: name, partition, records }: Batch) => {
      for (const record of records) await onRecord(record);
      const last = records.at(-1);
      if (last !== undefined) await consumer?.commit([{ topic: name, partition, offset: last.offset + 1n }]);
    },
    onFatal,
  });
  return consumer;
}
