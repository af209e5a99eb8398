import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Bus, InRecord, TransactionalProducer } from "#runtime/bus/port.ts";
import { HandoverError } from "./errors.ts";
import { OUTCOME_HEADER, type Outcome, parseOutcome } from "./outcome.ts";
import type { Place } from "./rules.ts";

const BARRIER_HEADER = "baton-barrier";
/** How far back a search begins, each further than the one before; in the end from the first record that is kept. */
const LOOK_BACK_MS = [60_000, 600_000, 3_600_000];

export interface ShadowRange {
  readonly topic: string;
  readonly partition: number;
  readonly revision: string;
  readonly input: Place;
  /** Input offsets with from ≤ offset < to. */
  readonly from: bigint;
  readonly to: bigint;
  /** First input offset that the revision ever computed. */
  readonly started: bigint;
}

/**
 * A revision's own shadow outcomes, re-read from the topic where it wrote them: what a worker that died had in memory.
 * `producer` is the one under whose id they were written: what it commits now lies behind all of them, so whoever
 * reads that has read them all, however long another's open transaction holds readers up. Rejects with SHADOW_GONE
 * when records of the range may have been deleted.
 */
export async function readShadow(
  bus: Bus,
  producer: TransactionalProducer,
  range: ShadowRange,
): Promise<Outcome[]> {
  const barrier = randomUUID();
  const { topic, partition } = range;
  const record = { topic, partition, value: null, headers: { [BARRIER_HEADER]: barrier } };
  await producer.commit({ records: [record] });
  const admin = await bus.admin();
  const earliest = (await admin.offsets(topic)).get(partition)?.earliest ?? 0n;
  for (const lookBack of LOOK_BACK_MS) {
    const since = (await admin.offsetsAt(topic, Date.now() - lookBack)).get(partition);
    if (since === undefined || since <= earliest) break;
    const { outcomes, first } = await scan(bus, range, since, barrier);
    // Outcomes of a revision are written in order: one at or below the range proves that all of it has been read.
    if (first !== undefined && first <= range.from) return outcomes;
  }
  const { outcomes, first } = await scan(bus, range, earliest, barrier);
  const complete = earliest === 0n || (first !== undefined && first <= range.from);
  if (!complete && range.started < range.from) {
    throw new HandoverError(
      "SHADOW_GONE",
      `${range.input.topic}/${range.input.partition} from ${range.from}`,
    );
  }
  return outcomes;
}

async function scan(
  bus: Bus,
  range: ShadowRange,
  start: bigint,
  barrier: string,
): Promise<{ outcomes: Outcome[]; first: bigint | undefined }> {
  const { topic, partition } = range;
  // By input offset: a record that a halt had withheld is there twice.
  const found = new Map<bigint, Outcome>();
  let first: bigint | undefined;
  let failed: Error | undefined;
  let done = false;
  const onRecord = (record: InRecord) => {
    if (record.headers[BARRIER_HEADER] === barrier) done = true;
    const outcome = parseOutcome(record.headers);
    if (outcome?.revision !== range.revision || outcome.topic !== range.input.topic) return;
    if (outcome.partition !== range.input.partition) return;
    first ??= outcome.offset;
    if (outcome.offset < range.from || outcome.offset >= range.to || outcome.action !== "shadow") return;
    const { [OUTCOME_HEADER.epoch]: _, ...headers } = record.headers;
    const { kind, instrument } = outcome;
    const input = { ...range.input, offset: outcome.offset };
    found.set(outcome.offset, { input, instrument, kind, key: record.key, value: record.value, headers });
  };
  const consumer = await bus.consumer({
    topics: [topic],
    from: "earliest",
    onAssigned: async (place) => (place.partition === partition ? start : undefined),
    onBatch: async (batch) => {
      if (batch.partition !== partition) return;
      for (const record of batch.records) if (record.offset >= start) onRecord(record);
    },
    onFatal: (error) => {
      failed = error;
    },
  });
  try {
    // Only one partition is of interest.
    consumer.pause(consumer.assignment().filter((place) => place.partition !== partition));
    while (!done) {
      if (failed !== undefined) throw failed;
      await sleep(10);
    }
  } finally {
    await consumer.close();
  }
  const outcomes = [...found.values()].toSorted((a, b) => (a.input.offset < b.input.offset ? -1 : 1));
  return { outcomes, first };
}
