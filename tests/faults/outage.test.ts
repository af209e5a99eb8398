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

it.each(["SIGKILL", "SIGSTOP"] as const)(
  "what is open, or is being opened, can be closed while no broker answers: %s",
  {
    timeout: 120_000,
  },
  async (signal) => {
    const brokers = await startBrokers(1);
    const open = () => new KafkaBus({ brokers: brokers.addresses, clientId: "test" });
    const [one, all] = [open(), open()];
    try {
      await (await one.admin()).ensureTopics([{ name: TOPIC, partitions: 1 }]);
      const record = { topic: TOPIC, partition: 0, key: "k", value: Buffer.from("v") };
      const reader = {
        topics: [TOPIC],
        from: "earliest",
        onBatch: async () => {},
        onFatal: () => {},
      } as const;
      const parts = async (bus: KafkaBus) => ({
        producer: await bus.producer(),
        idle: await bus.transactionalProducer(`idle-${bus === one}`),
        busy: await bus.transactionalProducer(`busy-${bus === one}`),
        consumers: [await bus.consumer(reader), await bus.consumer({ ...reader, group: `g-${bus === one}` })],
      });
      const mine = await parts(one);
      const others = await parts(all);
      // Seen by both: what is asked for next goes to a broker that was there.
      await mine.producer.send(record);
      await others.busy.commit({ records: [record] });
      const [broker] = brokers.brokers;
      if (signal === "SIGKILL") await broker?.end(signal);
      else broker?.signal(signal);

      const code = ({ code }: { readonly code?: string }) => code;
      const opening = new AbortController();
      const pending = [
        mine.producer.send(record).catch(code),
        mine.busy.commit({ records: [record] }).catch(code),
        one.transactionalProducer("new", { signal: opening.signal }).catch(code),
        others.producer.send(record).catch(code),
        others.busy.commit({ records: [record] }).catch(code),
        all.producer().catch(code),
        all.transactionalProducer("new").catch(code),
      ];
      await sleep(1_000);
      opening.abort();
      const soon = <T>(what: string, ending: Promise<T>) =>
        Promise.race([
          ending,
          sleep(15_000, undefined, { ref: false }).then(() =>
            Promise.reject(new Error(`${what} does not end`)),
          ),
        ]);
      await Promise.all([
        soon("the producer", mine.producer.close()),
        soon("the idle one", mine.idle.close()),
        soon("the busy one", mine.busy.close()),
        ...mine.consumers.map((consumer, i) => soon(`consumer ${i}`, consumer.close())),
        soon("the bus", all.close()),
      ]);
      expect(await soon("what was asked for", Promise.all(pending))).toEqual(pending.map(() => "CLOSED"));
      await soon("the first bus", one.close());
    } finally {
      brokers.brokers[0]?.signal("SIGCONT");
      await brokers.close();
    }
  },
);
