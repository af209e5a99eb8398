import { setTimeout as sleep } from "node:timers/promises";
import type { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { REST } from "#runtime/contracts/ledger.ts";
import { type LedgerState, placeOf } from "#runtime/handover/rules.ts";
import { UsageError } from "./common.ts";
import { noSuch } from "./names.ts";

// Which instruments there are: those that the ledger names, and those that the latest records are about.

/** Of each partition so many records are looked at. */
const LATEST = 5_000n;
/** What has not been read by then does not count. */
const READ_MS = 10_000;
const POLL_MS = 20;

/** @throws UsageError where an instrument is in no ledger and in none of the latest records */
export async function checkInstruments(
  bus: KafkaBus,
  state: LedgerState,
  instruments: readonly string[],
): Promise<void> {
  const known = new Set([...state.partitions.values()].flatMap(({ holdings }) => [...holdings.keys()]));
  known.add(REST);
  const missing = () => instruments.find((name) => !known.has(name));
  if (missing() === undefined) return;
  const topics = [...new Set([...state.partitions.keys()].map((id) => placeOf(id).topic))];
  await readLatest(
    bus,
    topics,
    (key) => known.add(key),
    () => missing() === undefined,
  );
  const name = missing();
  if (name === undefined) return;
  known.delete(REST);
  const { message } = noSuch("instrument", name, known);
  throw new UsageError(`${message} (--force moves one that no record has named yet)`);
}

/** Tells of the keys of topics' latest records until there are enough, or no more. */
async function readLatest(
  bus: KafkaBus,
  topics: readonly string[],
  onKey: (key: string) => void,
  isEnough: () => boolean,
): Promise<void> {
  const admin = await bus.admin();
  const ranges = new Map<string, { readonly from: bigint; readonly end: bigint }>();
  const open: { readonly topic: string; readonly partition: number; readonly end: bigint }[] = [];
  for (const topic of topics) {
    for (const [partition, { earliest, latest: end }] of await admin.offsets(topic)) {
      const from = end - earliest > LATEST ? end - LATEST : earliest;
      ranges.set(`${topic}/${partition}`, { from, end });
      if (end > from) open.push({ topic, partition, end });
    }
  }
  if (open.length === 0) return;
  let failed: Error | undefined;
  const consumer = await bus.consumer({
    topics,
    from: "latest",
    onAssigned: async ({ topic, partition }) => ranges.get(`${topic}/${partition}`)?.from,
    onBatch: async ({ records }) => {
      for (const { key } of records) if (key !== undefined) onKey(key);
    },
    onFatal: (error) => {
      failed = error;
    },
  });
  try {
    const isRead = () => open.every(({ end, ...place }) => (consumer.position(place) ?? -1n) >= end);
    for (const deadline = Date.now() + READ_MS; Date.now() < deadline && !isEnough() && !isRead(); ) {
      if (failed !== undefined) throw failed;
      await sleep(POLL_MS);
    }
  } finally {
    await consumer.close();
  }
}
