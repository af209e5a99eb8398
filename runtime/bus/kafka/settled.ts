import { setTimeout as sleep } from "node:timers/promises";
import type { Kafka } from "kafkajs";
import { BusError } from "../errors.ts";
import type { InRecord, TopicPartition } from "../port.ts";
import { toRecord, unreadableBatch } from "./assigned.ts";
import { type Cluster, type RawMessage, type RawMessages, READ_UNCOMMITTED, withCluster } from "./cluster.ts";

// Reads what has been committed in a stretch of a partition, without a group and without waiting for transactions of others
// that are open: it reads everything, and goes by the markers itself.

export interface Stretch extends TopicPartition {
  readonly from: bigint;
  /** The first offset that is not read. */
  readonly to: bigint;
}

const MAX_BYTES = 4 * 1024 * 1024;
const MAX_WAIT_MS = 100;
const ATTEMPTS = 40;
const RETRY_MS = 250;

/** Calls back with the committed records of some stretches, each in the order of the commits. */
export async function readSettled(
  kafka: Kafka,
  stretches: readonly Stretch[],
  onRecord: (record: InRecord) => void,
): Promise<void> {
  const wanted = stretches.filter(({ from, to }) => from < to);
  if (wanted.length === 0) return;
  const topics = [...new Set(wanted.map(({ topic }) => topic))];
  await withCluster(kafka, topics, async (cluster) => {
    // One after another: kafkajs opens a connection too many, and never closes it, where two ask for a broker at once.
    for (const stretch of wanted) await readOne(cluster, stretch, onRecord);
  });
}

async function readOne(
  cluster: Cluster,
  { topic, partition, from, to }: Stretch,
  onRecord: (record: InRecord) => void,
): Promise<void> {
  const open = new Map<string, InRecord[]>();
  for (let offset = from; offset < to; ) {
    const messages = await fetched(cluster, { topic, partition }, offset);
    for (const message of messages) {
      const at = BigInt(message.offset);
      if (at < offset || at >= to) continue;
      const { producerId, inTransaction } = message.batchContext;
      if (message.isControlRecord) {
        if (isCommit(message)) for (const record of open.get(producerId) ?? []) onRecord(record);
        open.delete(producerId);
      } else {
        const record = toRecord(topic, partition, at, message);
        const waiting = open.get(producerId);
        if (!inTransaction) onRecord(record);
        else if (waiting === undefined) open.set(producerId, [record]);
        else waiting.push(record);
      }
    }
    offset = BigInt(messages.at(-1)?.offset ?? to) + 1n;
  }
}

async function fetched(
  cluster: Cluster,
  { topic, partition }: TopicPartition,
  offset: bigint,
): Promise<readonly RawMessage[]> {
  for (let attempt = 1; ; attempt++) {
    try {
      const [nodeId = ""] = Object.keys(cluster.findLeaderForPartitions(topic, [partition]));
      const broker = await cluster.findBroker({ nodeId });
      const { responses } = await broker.fetch({
        isolationLevel: READ_UNCOMMITTED,
        maxWaitTime: MAX_WAIT_MS,
        minBytes: 1,
        maxBytes: MAX_BYTES,
        topics: [{ topic, partitions: [{ partition, fetchOffset: String(offset), maxBytes: MAX_BYTES }] }],
      });
      const messages: RawMessages = responses[0]?.partitions[0]?.messages ?? [];
      if (messages.unreadable !== undefined) throw unreadableBatch({ topic, partition }, messages.unreadable);
      // There is something up to the end that was asked for: a broker that has just begun may not know that yet.
      if (BigInt(messages.at(-1)?.offset ?? -1) < offset)
        throw new Error(`nothing at ${topic}/${partition}@${offset}`);
      return messages;
    } catch (error) {
      // A leader that has moved, or is about to be elected.
      if (attempt >= ATTEMPTS || error instanceof BusError) throw error;
      await sleep(RETRY_MS);
      await cluster.refreshMetadata().catch(() => {});
    }
  }
}

/** A marker's key is its version and its type, two bytes each; 1 commits. */
function isCommit({ key }: RawMessage): boolean {
  return key !== null && key.length >= 4 && key.readInt16BE(2) === 1;
}
