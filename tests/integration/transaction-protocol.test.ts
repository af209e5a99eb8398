import { describe, expect, it } from "vitest";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { kafkajs } from "#runtime/bus/kafka/library.ts";
import { readToEnd } from "#runtime/bus/read.ts";
import { startBrokers } from "#tests/support/processes.ts";

// Which of Kafka's two transaction protocols is spoken, with brokers of the test's own: what each cluster has in force.

const TOPIC = "t";
const GROUP = "g";

/** The requests of one transaction with a record and a position. */
async function requestsOf(brokers: string[]): Promise<string[]> {
  const kafka = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING });
  const producer = kafka.producer({ transactionalId: "counted", maxInFlightRequests: 1, idempotent: true });
  await producer.connect();
  const transact = async (offset: string) => {
    const transaction = await producer.transaction();
    const topics = [{ topic: TOPIC, partitions: [{ partition: 0, offset }] }];
    await transaction.sendOffsets({ consumerGroupId: GROUP, topics });
    await transaction.send({ topic: TOPIC, messages: [{ partition: 0, value: offset }] });
    await transaction.commit();
  };
  // The first one looks for coordinators and asks for a producer id.
  await transact("1");
  const requests: string[] = [];
  producer.on("producer.network.request", ({ payload }) => {
    requests.push(`${payload.apiName} ${payload.apiVersion}`);
  });
  await transact("2");
  await producer.disconnect();
  return requests;
}

describe.each([
  [1, ["AddOffsetsToTxn 1", "TxnOffsetCommit 1", "AddPartitionsToTxn 1", "Produce 7", "EndTxn 1"]],
  [2, ["TxnOffsetCommit 5", "Produce 12", "EndTxn 5"]],
] as const)("with transaction protocol %i in force", (transactionVersion, requests) => {
  it("speaks that one, settles what was left open, and fences", { timeout: 120_000 }, async () => {
    const brokers = await startBrokers(1, { transactionVersion });
    const bus = new KafkaBus({ brokers: brokers.addresses, clientId: "test" });
    try {
      const admin = await bus.admin();
      await admin.ensureTopics([{ name: TOPIC, partitions: 2 }]);
      // Adding a group is refused now and then while markers are written, and asked for again.
      const spoken = await requestsOf([...brokers.addresses]);
      expect([...new Set(spoken)]).toEqual(requests);
      const leftovers = { group: GROUP, partitions: [{ topic: TOPIC, partition: 1 }] };
      const record = (value: string) => ({ topic: TOPIC, partition: 1, value: Buffer.from(value) });
      const at = (offset: bigint) => ({
        group: GROUP,
        positions: [{ topic: TOPIC, partition: 0, offset }],
        metadata: `mark ${offset}`,
      });
      const zombie = await bus.transactionalProducer("tx", { leftovers });
      for (const value of ["a", "b", "c"]) await zombie.commit({ records: [record(value)], offsets: at(3n) });
      const heir = await bus.transactionalProducer("tx", { leftovers });
      await expect(zombie.commit({ records: [record("zombie")], offsets: at(9n) })).rejects.toMatchObject({
        code: "FENCED",
      });
      await heir.commit({ records: [record("d")] });
      await heir.commit({ records: [], offsets: at(4n) });
      const read: string[] = [];
      await readToEnd(bus, TOPIC, ({ partition, value }) => {
        if (partition === 1 && value !== null) read.push(String(value));
      });
      expect(read).toEqual(["a", "b", "c", "d"]);
      expect((await admin.committed(GROUP, TOPIC)).get(0)).toBe(4n);
    } finally {
      await bus.close();
      await brokers.close();
    }
  });
});
