import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { readToEnd } from "#runtime/bus/read.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { OUTCOME_HEADER } from "#runtime/handover/outcome.ts";
import { claim } from "#tests/support/handover.ts";
import { handoverProcess, Pods } from "#tests/support/nemesis.ts";
import { startBrokers } from "#tests/support/processes.ts";
import { waitFor } from "#tests/support/wait.ts";

// The ledger's topic is deleted while two revisions follow it. Who decides is known to those who run, and to nobody else.

const TOPIC = "md.crypto.main";
const DEPLOYMENT = "d";

it("a ledger that is deleted costs no message and doubles none", { timeout: 180_000 }, async () => {
  const brokers = await startBrokers(1);
  const bus = new KafkaBus({ brokers: brokers.addresses, clientId: "test" });
  const environment = { KAFKA_BROKERS: brokers.addresses.join(), DEPLOYMENT, TOPIC, LOG_LEVEL: "info" };
  const pods = new Pods({ ...environment, SESSION_TIMEOUT_MS: "3000" });
  let sent = 0;
  let sending = true;
  const live = async () => {
    const seen: string[] = [];
    await readToEnd(bus, topics.signals(DEPLOYMENT), ({ headers }) => {
      seen.push(String(headers[OUTCOME_HEADER.input]));
    });
    return seen;
  };
  const more = async (what: string) => {
    const from = sent;
    await waitFor(what, async () => (await live()).length > from, 60_000, 500);
  };
  try {
    const admin = await bus.admin();
    await admin.ensureTopics([{ name: TOPIC, partitions: 2 }]);
    await claim(bus, DEPLOYMENT, "a", TOPIC);
    const owner = pods.add("a");
    pods.add("b");
    const producer = await bus.producer();
    const send = (async () => {
      for (; sending; sent++) {
        const record = { topic: TOPIC, partition: sent % 2, key: `INS${sent % 20}USDT` };
        void producer.send({ ...record, value: Buffer.from(String(sent)) });
        await sleep(5);
      }
    })();
    await more("decisions");
    await admin.deleteTopics([topics.ledger(DEPLOYMENT)]);
    await more("decisions by what is known");
    await pods.remove(owner, "SIGKILL");
    pods.add("a");
    const stopped = await waitFor("nobody to know anything", async () => {
      const before = (await live()).length;
      await sleep(2_000);
      return (await live()).length === before ? before : undefined;
    });
    expect(sent).toBeGreaterThan(stopped);
    // What a person does: see that no instrument was with another revision, and give all to this one.
    await claim(bus, DEPLOYMENT, "a", TOPIC);
    await more("decisions on what has waited, and what is new");
    await waitFor("the other revision to have seen it", () => pods.restarts > 0, 30_000);
    const mover = handoverProcess("conductor", { ...environment, INSTRUMENTS: "INS1USDT,INS2USDT", TO: "b" });
    mover.start();
    await waitFor("a hand-over by the new ledger", () => mover.output.includes('"moved"'), 60_000);
    await more("decisions by both");
    sending = false;
    await send;
    await producer.flush();
    await waitFor("the rest", async () => new Set(await live()).size === sent, 30_000, 500);
    expect((await live()).length).toBe(sent);
  } finally {
    sending = false;
    await pods.stop();
    await bus.close();
    await brokers.close();
  }
});
