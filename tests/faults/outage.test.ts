import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { verifyHistory } from "#runtime/handover/history/read.ts";
import { claim } from "#tests/support/handover.ts";
import { Pods } from "#tests/support/nemesis.ts";
import { startBrokers } from "#tests/support/processes.ts";
import { waitFor } from "#tests/support/wait.ts";

// Kafka away for longer than requests are repeated: workers wait, and lose nothing but the time.

const TOPIC = "md.crypto.main";
const AWAY_MS = 15_000;

it("a broker that is killed and comes back late costs no worker its process", {
  timeout: 180_000,
}, async () => {
  const brokers = await startBrokers(1);
  const bus = new KafkaBus({ brokers: brokers.addresses, clientId: "test" });
  const pods = new Pods({
    KAFKA_BROKERS: brokers.addresses.join(),
    DEPLOYMENT: "d",
    TOPIC,
    LOG_LEVEL: "info",
    SESSION_TIMEOUT_MS: "3000",
  });
  try {
    const admin = await bus.admin();
    await admin.ensureTopics([{ name: TOPIC, partitions: 4 }]);
    await claim(bus, "d", "a", TOPIC);
    pods.add("a");
    pods.add("b");
    const producer = await bus.producer();
    let sent = 0;
    const send = async (count: number) => {
      for (let i = 0; i < count; i++, sent++) {
        const record = { topic: TOPIC, partition: sent % 4, key: `INS${sent % 20}USDT` };
        void producer.send({ ...record, value: Buffer.from(String(sent)) });
        await sleep(4);
      }
    };
    const committed = () =>
      waitFor(
        "everything to be committed",
        async () => {
          const ends = await admin.offsets(TOPIC);
          for (const revision of ["a", "b"]) {
            const found = await admin.committed(`d.${revision}`, TOPIC);
            for (const [partition, { latest }] of ends) if (found.get(partition) !== latest) return false;
          }
          return true;
        },
        60_000,
      );
    await send(500);
    await committed();
    const sending = send(1_000);
    await sleep(1_000);
    await brokers.brokers[0]?.end("SIGKILL");
    await sleep(AWAY_MS);
    await brokers.start(0);
    await sending;
    await send(200);
    await producer.flush();
    await committed();
    const { violations, counts } = await verifyHistory(bus, "d");
    expect(violations).toEqual([]);
    expect(counts).toMatchObject({ inputs: sent, live: sent });
    expect(pods.restarts).toBe(0);
  } finally {
    await pods.stop();
    await bus.close();
    await brokers.close();
  }
});
