import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import type { Producer } from "#runtime/bus/port.ts";
import { SCHEMA_HEADER } from "#runtime/contracts/contract.ts";
import { Ledger } from "#runtime/contracts/ledger.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { verifyHistory } from "#runtime/handover/history/read.ts";
import type { Unsafe } from "#runtime/handover/revision.ts";
import { claim } from "#tests/support/handover.ts";
import { handoverProcess } from "#tests/support/nemesis.ts";
import { kafkajs } from "#tests/support/plain-kafkajs.ts";
import { type Subject, startBrokers, type TestBrokers } from "#tests/support/processes.ts";
import { waitFor } from "#tests/support/wait.ts";

// What each protection of the protocol is for: with it the history holds, without it the checker finds the breach.

// Two minutes: with FAULTS=short or FAULTS=full, and in CI.
const RUN = process.env["FAULTS"] !== undefined || process.env["CI"] === "true";
const TOPIC = "md.crypto.main";
const DEPLOYMENT = "d";
let brokers: TestBrokers;
let bus: KafkaBus;
let producer: Producer;
const subjects: Subject[] = [];

beforeEach(async () => {
  if (!RUN) return;
  brokers = await startBrokers(1);
  bus = new KafkaBus({ brokers: brokers.addresses, clientId: "test" });
  await (await bus.admin()).ensureTopics([{ name: TOPIC, partitions: 1 }]);
  await claim(bus, DEPLOYMENT, "a", TOPIC);
  producer = await bus.producer();
});
afterEach(async () => {
  if (!RUN) return;
  for (const subject of subjects.splice(0)) {
    subject.signal("SIGCONT");
    await subject.end();
  }
  await bus.close();
  await brokers.close();
});

const common = () => ({ KAFKA_BROKERS: brokers.addresses.join(), DEPLOYMENT, TOPIC });

function worker(revision: string, env: Readonly<Record<string, string>> = {}): Subject {
  const subject = handoverProcess("worker", { ...common(), REVISION: revision, ...env });
  subjects.push(subject);
  subject.start();
  return subject;
}

async function send(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    await producer.send({ topic: TOPIC, key: i % 2 === 0 ? "BTCUSDT" : "ETHUSDT", value: Buffer.from("x") });
  }
}

const says = (subject: Subject, text: string) =>
  waitFor(`"${text}"`, () => subject.output.includes(text), 30_000);

async function committed(revision: string): Promise<bigint> {
  return (await (await bus.admin()).committed(`${DEPLOYMENT}.${revision}`, TOPIC)).get(0) ?? 0n;
}

async function everythingCommitted(...revisions: string[]): Promise<void> {
  const end = (await (await bus.admin()).offsets(TOPIC)).get(0)?.latest ?? 0n;
  for (const revision of revisions) {
    await waitFor(`${revision} at ${end}`, async () => (await committed(revision)) === end, 60_000);
  }
}

async function move(instruments: string, to: string): Promise<void> {
  const conductor = handoverProcess("conductor", { ...common(), INSTRUMENTS: instruments, TO: to });
  subjects.push(conductor);
  conductor.start();
  expect(await conductor.ended()).toBe(0);
}

const broken = async () => {
  const { broken: counts } = await verifyHistory(bus, DEPLOYMENT);
  return Object.entries(counts).flatMap(([rule, count]) => (count > 0 ? [rule] : []));
};

/** Runs a scenario with the protection and without it. */
function shows(
  what: Unsafe,
  title: string,
  scenario: (env: Readonly<Record<string, string>>) => Promise<void>,
) {
  it(`${title}: holds`, async () => {
    await scenario({});
    expect(await broken()).toEqual([]);
  });
  it(`${title}: without ${what} the checker finds the breach`, async () => {
    await scenario({ UNSAFE: what });
    expect(await broken()).toContain("H1");
  });
}

describe.runIf(RUN)("fencing", () => {
  shows("fencing", "a worker that wakes up beside its successor", async (env) => {
    // It stops when it has decided on its second batch and has not committed it.
    const zombie = worker("a", { ...env, FAULT: "decided:2:SIGSTOP" });
    await says(zombie, "partition taken over");
    await send(5);
    await waitFor("the first batch", async () => (await committed("a")) >= 1n);
    await send(20);
    await says(zombie, '"msg":"fault"');
    worker("a", env);
    await everythingCommitted("a");
    zombie.signal("SIGCONT");
    await sleep(5_000);
  });
});

describe.runIf(RUN)("reading the ledger before the start", () => {
  shows("ledger-read", "a worker that finds messages waiting", async (env) => {
    const first = worker("a");
    await says(first, "partition taken over");
    await send(5);
    await everythingCommitted("a");
    await first.end();
    await send(20);
    worker("a", env);
    await everythingCommitted("a");
  });

  it("goes to its end even where an open transaction keeps readers in front of it", async () => {
    const first = worker("a", { FAULT: "releasing:1:SIGSTOP" });
    const next = worker("b");
    await says(first, "partition taken over");
    await says(next, "partition taken over");
    await send(10);
    await everythingCommitted("a", "b");
    const conductor = handoverProcess("conductor", { ...common(), INSTRUMENTS: "BTCUSDT", TO: "b" });
    subjects.push(conductor);
    conductor.start();
    await says(first, '"msg":"fault"');
    const kafka = new kafkajs.Kafka({ brokers: [...brokers.addresses], logLevel: kafkajs.logLevel.NOTHING });
    const other = kafka.producer({ transactionalId: "other", maxInFlightRequests: 1, idempotent: true });
    await other.connect();
    const open = await other.transaction();
    const record: Ledger = { type: "conducting", at: Date.now(), conductor: "other" };
    const message = { key: "other", value: JSON.stringify(record), headers: { [SCHEMA_HEADER]: Ledger.id } };
    await open.send({ topic: topics.ledger(DEPLOYMENT), messages: [message] });
    first.signal("SIGCONT");
    await sleep(1_000);
    await first.end();
    const second = worker("a");
    await says(second, '"started"');
    await send(10);
    await sleep(4_000);
    // It does not decide by what it can see, which is that it still owns.
    expect(second.output).not.toContain("partition taken over");
    await open.abort();
    await other.disconnect();
    await says(second, "partition taken over");
    await everythingCommitted("a", "b");
    expect(await conductor.ended()).toBe(0);
    expect(await broken()).toEqual([]);
  });
});

describe.runIf(RUN)("releasing in the transaction of the last decisions", () => {
  shows("same-transaction", "a hand-over in the middle of a stream", async (env) => {
    const first = worker("a", env);
    const next = worker("b", env);
    await says(first, "partition taken over");
    await says(next, "partition taken over");
    let running = true;
    const stream = (async () => {
      while (running) {
        void producer.send({ topic: TOPIC, key: "BTCUSDT", value: Buffer.from("x") });
        void producer.send({ topic: TOPIC, key: "ETHUSDT", value: Buffer.from("x") });
        await sleep(1);
      }
    })();
    for (const to of ["b", "a", "b", "a"]) await move("BTCUSDT", to);
    running = false;
    await stream;
    await producer.flush();
    await everythingCommitted("a", "b");
  });
});
