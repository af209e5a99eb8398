import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { readToEnd } from "#runtime/bus/read.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { Conductor } from "#runtime/handover/conductor.ts";
import { verifyHistory } from "#runtime/handover/history/read.ts";
import { ledgerRecord } from "#runtime/handover/ledger.ts";
import { parseOutcome } from "#runtime/handover/outcome.ts";
import { groupOf, leftoversOf, transactionalId } from "#runtime/handover/standing.ts";
import { claim, echoWorker, placesOf } from "#tests/support/handover.ts";
import { handoverProcess } from "#tests/support/nemesis.ts";
import type { Subject } from "#tests/support/processes.ts";
import { waitFor } from "#tests/support/wait.ts";

// A revision that decides on nothing is away while the owner goes on, comes back, and takes over: what it has to do first does
// not grow with what came in.

const brokers = [`127.0.0.1:${inject("cluster").ports.kafka}`];
const INSTRUMENTS = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "ADAUSDT"];
/** More than a revision works off. */
const AWAY = 4_000;

let bus: KafkaBus;
let name: string;
let topic: string;
let sent: number;
const opened: { stop(): Promise<void> }[] = [];

beforeEach(async () => {
  bus = new KafkaBus({ brokers, clientId: "test" });
  name = `begin-${randomUUID().slice(0, 8)}`;
  topic = `md.crypto.${name}`;
  sent = 0;
  await (await bus.admin()).ensureTopics([{ name: topic, partitions: 1 }]);
  await claim(bus, name, "a", topic);
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((part) => part.stop()));
  await bus.close();
});

async function worker(revision: string) {
  const made = echoWorker({ bus, deployment: name, revision, topics: [topic], sessionTimeoutMs: 6_000 });
  opened.push(made);
  await made.start();
  return made;
}

async function send(count: number): Promise<void> {
  const producer = await bus.producer();
  const part = Array.from({ length: count }, (_, i) => {
    const key = INSTRUMENTS[(sent + i) % INSTRUMENTS.length] as string;
    return producer.send({ topic, partition: 0, key, value: Buffer.from(String(sent + i)) });
  });
  await Promise.all(part);
  sent += count;
}

async function allCommitted(...revisions: string[]): Promise<void> {
  const admin = await bus.admin();
  for (const revision of revisions) {
    await waitFor(`${revision} to commit everything`, async () => {
      return (await admin.committed(groupOf(name, revision), topic)).get(0) === BigInt(sent);
    });
  }
}

/** Input offsets of what a revision computed and did not decide. */
async function shadows(revision: string): Promise<number[]> {
  const offsets: number[] = [];
  await readToEnd(bus, topics.shadow(name), ({ headers }) => {
    const outcome = parseOutcome(headers);
    if (outcome?.revision === revision && outcome.action === "shadow") offsets.push(Number(outcome.offset));
  });
  return offsets;
}

/** It is given everything, and decides on what comes in. */
async function takesOver(revision: string): Promise<void> {
  const conductor = new Conductor({ bus, deployment: name });
  opened.push({ stop: () => conductor.close() });
  await conductor.start();
  await conductor.move(["*"], revision, await placesOf(bus, topic));
  await send(20);
  await allCommitted("a", revision);
  const { violations, counts } = await verifyHistory(bus, name);
  expect(violations).toEqual([]);
  expect(counts).toMatchObject({ inputs: sent, live: sent, pending: 0, forced: 0 });
}

describe("a revision that was away", { timeout: 60_000 }, () => {
  it.each(["was asked to end", "was killed"])("and %s has none of it to work off", async (how) => {
    await worker("a");
    const end = how === "was killed" ? inProcess("b") : await worker("b");
    await allCommitted("a", "b");
    await send(10);
    await allCommitted("a", "b");
    await end.stop();
    await send(AWAY);
    await allCommitted("a");
    await worker("b");
    await allCommitted("b");
    expect(await shadows("b")).toEqual(Array.from({ length: 10 }, (_, i) => i));
    await takesOver("b");
    expect((await shadows("b")).length).toBeLessThanOrEqual(10 + 20);
  });

  it("begins where it has said, also where it could not tell its group", async () => {
    await worker("a");
    const b = await worker("b");
    await allCommitted("a", "b");
    await send(10);
    await allCommitted("a", "b");
    await b.stop();
    await send(AWAY);
    await allCommitted("a");
    const place = { topic, partition: 0 };
    const producer = await bus.transactionalProducer(transactionalId(name, "b", place), {
      leftovers: await leftoversOf(bus, name, "b", place),
    });
    const record = { type: "started", at: Date.now(), revision: "b", ...place } as const;
    await producer.commit({ records: [ledgerRecord(name, { ...record, offset: String(sent), left: "10" })] });
    await producer.close();
    await worker("b");
    await allCommitted("b");
    expect(await shadows("b")).toEqual(Array.from({ length: 10 }, (_, i) => i));
    await takesOver("b");
  });
});

/** A worker in a process of its own, which is killed. */
function inProcess(revision: string): { stop(): Promise<void> } {
  const env = { KAFKA_BROKERS: brokers.join(), DEPLOYMENT: name, TOPIC: topic, REVISION: revision };
  const subject: Subject = handoverProcess("worker", env);
  subject.start();
  return { stop: () => subject.end("SIGKILL").then(() => {}) };
}
