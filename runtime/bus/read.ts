import { setTimeout as sleep } from "node:timers/promises";
import type { Bus, InRecord } from "./port.ts";

const POLL_MS = 20;

/** Calls back with every committed record of a topic up to its present end, partition by partition in order. */
export async function readToEnd(
  bus: Bus,
  topic: string,
  onRecord: (record: InRecord) => void | Promise<void>,
): Promise<void> {
  const admin = await bus.admin();
  const offsets = await admin.offsets(topic);
  const ends = [...offsets].filter(([, { earliest, latest }]) => latest > earliest);
  if (ends.length === 0) return;
  let failed: Error | undefined;
  const consumer = await bus.consumer({
    topics: [topic],
    from: "earliest",
    maxBytesPerPartition: 4 * 1024 * 1024,
    onFatal: (error) => {
      failed = error;
    },
    onBatch: async (batch) => {
      const end = offsets.get(batch.partition)?.latest ?? 0n;
      for (const record of batch.records) if (record.offset < end) await onRecord(record);
    },
  });
  try {
    const done = () =>
      ends.every(([partition, { latest }]) => (consumer.position({ topic, partition }) ?? -1n) >= latest);
    while (!done()) {
      if (failed !== undefined) throw failed;
      await sleep(POLL_MS);
    }
  } finally {
    await consumer.close();
  }
}
