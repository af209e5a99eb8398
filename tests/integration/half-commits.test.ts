import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import type { OutRecord } from "#runtime/bus/port.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { Conductor } from "#runtime/handover/conductor.ts";
import { verifyHistory } from "#runtime/handover/history/read.ts";
import { ledgerRecord } from "#runtime/handover/ledger.ts";
import { OUTCOME_HEADER, outcomeRecord } from "#runtime/handover/outcome.ts";
import { encodeMark } from "#runtime/handover/repair.ts";
import { groupOf, leftoversOf, transactionalId } from "#runtime/handover/standing.ts";
import { claim, echoWorker, placesOf } from "#tests/support/handover.ts";
import { kafkajs } from "#tests/support/plain-kafkajs.ts";
import { waitFor } from "#tests/support/wait.ts";

// What a broker that died in the middle of a commit may leave behind (ADR 13): half of a transaction. Written here by hand,
// under the worker's own id; whoever takes over has to make it whole, once.

const cluster = inject("cluster");
const brokers = [`127.0.0.1:${cluster.ports.kafka}`];
const INSTRUMENTS = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "ADAUSDT"] as const;
const EPOCH = 1;

let bus: KafkaBus;
let name: string;
let topic: string;
let sent: number;
const opened: { stop(): Promise<void> }[] = [];

beforeEach(async () => {
  bus = new KafkaBus({ brokers, clientId: "test" });
  name = `half-${randomUUID().slice(0, 8)}`;
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

async function conduct(releaseMs = 30_000): Promise<Conductor> {
  const conductor = new Conductor({ bus, deployment: name, deadlines: { releaseMs, takeMs: 30_000 } });
  opened.push({ stop: () => conductor.close() });
  await conductor.start();
  return conductor;
}

async function send(count: number): Promise<void> {
  const producer = await bus.producer();
  for (let i = 0; i < count; i++, sent++) {
    const key = INSTRUMENTS[sent % INSTRUMENTS.length] as string;
    await producer.send({ topic, partition: 0, key, value: Buffer.from(String(sent)) });
  }
}

async function allCommitted(revision: string): Promise<void> {
  const admin = await bus.admin();
  await waitFor(`${revision} to commit everything`, async () => {
    return (await admin.committed(groupOf(name, revision), topic)).get(0) === BigInt(sent);
  });
}

/** A first worker decides on ten records and ends; ten more come in. */
async function tenDone(): Promise<void> {
  const first = await worker("a");
  await send(10);
  await allCommitted("a");
  await first.stop();
  await send(10);
}

/** b takes everything over from a, which is dead; that one comes back after all, and makes its own shadows whole. */
async function afterTheDead(): Promise<Conductor> {
  const conductor = await conduct(300);
  await conductor.move(["*"], "b", await placesOf(bus, topic));
  await send(5);
  await allCommitted("b");
  await worker("a");
  await allCommitted("a");
  return conductor;
}

/** What a worker would write about input offsets. */
const outcomesOf = (offsets: readonly number[], revision = "a", epoch = EPOCH): OutRecord[] =>
  offsets.map((offset) => {
    const instrument = INSTRUMENTS[offset % INSTRUMENTS.length] as string;
    const headers = {
      [OUTCOME_HEADER.input]: `${topic}/0/${offset}`,
      [OUTCOME_HEADER.instrument]: instrument,
      [OUTCOME_HEADER.revision]: revision,
    };
    const input = { topic, partition: 0, offset: BigInt(offset) };
    const value = Buffer.from(`${revision}:${offset}`);
    const to = {
      live: topics.signals(name),
      shadow: topics.shadow(name),
      deadLetters: topics.deadLetters(name),
      shadowPartitions: 4,
    };
    return outcomeRecord(
      { input, instrument, kind: "decision", key: instrument, value, headers },
      "live",
      epoch,
      to,
    );
  });

/** Commits under the id of a revision's worker. */
async function commitAs(
  records: readonly OutRecord[],
  position?: number,
  revision = "a",
  from = 10,
): Promise<void> {
  const place = { topic, partition: 0 };
  const producer = await bus.transactionalProducer(transactionalId(name, revision, place), {
    leftovers: await leftoversOf(bus, name, revision, place),
  });
  const metadata = encodeMark({ from: BigInt(from), count: 10, kind: "batch", at: Date.now() });
  const positions = [{ ...place, offset: BigInt(position ?? 0) }];
  await producer.commit({
    records,
    ...(position === undefined ? {} : { offsets: { group: groupOf(name, revision), positions, metadata } }),
  });
  await producer.close();
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

async function verdict() {
  const { violations, counts } = await verifyHistory(bus, name);
  expect(violations).toEqual([]);
  return counts;
}

/** What a broker that has not read its own log to the end says of a revision's position (ADR 22). */
const wrongPositions = [
  ["none", () => forgetPosition()],
  ["one that is no worker's", () => setPosition(0n, "")],
  [
    "one of five minutes ago",
    () => setPosition(0n, encodeMark({ from: 0n, count: 0, kind: "batch", at: Date.now() - 300_000 })),
  ],
] as const;

async function forgetPosition(): Promise<void> {
  const group = groupOf(name, "a");
  const admin = await bus.admin();
  // A group is deleted when its last member has gone.
  await waitFor("the position to go", async () => {
    await admin.deleteGroup(group);
    return (await admin.committed(group, topic)).size === 0;
  });
}

async function setPosition(offset: bigint, metadata: string): Promise<void> {
  const place = { topic, partition: 0 };
  const producer = await bus.transactionalProducer(transactionalId(name, "a", place));
  const positions = [{ ...place, offset }];
  await producer.commit({ records: [], offsets: { group: groupOf(name, "a"), positions, metadata } });
  await producer.close();
}

describe("a position that the broker has lost", { timeout: 60_000 }, () => {
  it.each(wrongPositions)("%s: what is decided stays decided, once", async (_, lose) => {
    await tenDone();
    await lose();
    await worker("a");
    await send(10);
    await allCommitted("a");
    expect(await verdict()).toMatchObject({ inputs: 30, live: 30, pending: 0 });
  });

  it.each(wrongPositions)(
    "%s, of a worker that is dead for good: it is let go of behind that",
    async (_, lose) => {
      await tenDone();
      await worker("b");
      await allCommitted("b");
      await lose();
      await afterTheDead();
      expect(await verdict()).toMatchObject({ inputs: 25, live: 25, forced: 1 });
    },
  );

  it("none: another revision begins no later", async () => {
    await tenDone();
    await forgetPosition();
    await worker("b");
    await allCommitted("b");
    await worker("a");
    await allCommitted("a");
    expect(await verdict()).toMatchObject({ inputs: 20, live: 20, pending: 0 });
  });
});

describe("half of a commit", { timeout: 60_000 }, () => {
  it.each([
    ["the outcomes without the position", range(10, 20), undefined],
    ["some of the outcomes without the position", [10, 12, 14, 16, 18], undefined],
    ["the position without the outcomes", [], 20],
    ["the position and some of the outcomes", [11, 15, 19], 20],
    ["all of it", range(10, 20), 20],
  ] as const)("%s: each record is decided once", async (_, offsets, position) => {
    await tenDone();
    await commitAs(outcomesOf(offsets), position);
    await worker("a");
    await send(10);
    await allCommitted("a");
    expect(await verdict()).toMatchObject({ inputs: 30, live: 30, pending: 0 });
  });

  it.each([
    ["the outcomes without the position", range(10, 20), undefined, 20],
    ["the position without the outcomes", [], 20, 10],
  ] as const)(
    "of a worker that is dead for good, %s: another revision goes on there",
    async (_, offsets, position, cut) => {
      await tenDone();
      await worker("b");
      await allCommitted("b");
      await commitAs(outcomesOf(offsets), position);
      const conductor = await afterTheDead();
      expect(await verdict()).toMatchObject({ inputs: 25, live: 25, forced: 1 });
      expect(conductor.state.partitions.get(`${topic}/0`)?.holdings.get("*")).toMatchObject({
        revision: "b",
        from: BigInt(cut),
      });
    },
  );

  it.each([
    ["the outcomes without the position", range(10, 20), undefined],
    ["some of the outcomes without the position", [10, 12, 14, 16, 18], undefined],
    ["the position and some of the outcomes", [11, 15, 19], 20],
  ] as const)(
    "of a worker that is to let go as soon as it is back, %s: it lets go behind what it has decided",
    async (_, offsets, position) => {
      await tenDone();
      await worker("b");
      await allCommitted("b");
      await commitAs(outcomesOf(offsets), position);
      const conductor = await conduct();
      const moved = conductor.move(["*"], "b", await placesOf(bus, topic));
      await waitFor("the request", async () => conductor.state.requests.size > 0);
      await worker("a");
      await moved;
      await send(5);
      await Promise.all([allCommitted("a"), allCommitted("b")]);
      expect(await verdict()).toMatchObject({ inputs: 25, live: 25, forced: 0 });
    },
  );

  it.each([
    ["that is back", true, 20],
    ["that is dead for good", false, 15],
  ] as const)(
    "of a take-over that is asked back from a worker %s: what it made live stays its own",
    async (_, back, cut) => {
      await tenDone();
      const b = await worker("b");
      await allCommitted("b");
      await b.stop();
      const conductor = await conduct();
      const partitions = await placesOf(bus, topic);
      await conductor.request({ epoch: 2, instruments: ["*"], from: "a", to: "b", partitions });
      await worker("a");
      const move = () => conductor.state.partitions.get(`${topic}/0`)?.moves[0];
      await waitFor("a to let go", async () => move()?.cut === 10n);
      await commitAs(outcomesOf(range(10, 15), "b", 2), undefined, "b");
      await conductor.close();
      const after = await conduct(back ? 30_000 : 300);
      await after.request({ epoch: 3, instruments: ["*"], from: "b", to: "a", partitions });
      if (back) await worker("b");
      await after.settle();
      await send(5);
      await allCommitted("a");
      expect(await verdict()).toMatchObject({ inputs: 25, live: 25, forced: back ? 0 : 1 });
      expect(after.state.partitions.get(`${topic}/0`)?.holdings.get("*")).toMatchObject({
        revision: "a",
        from: BigInt(cut),
      });
    },
  );

  it.each([
    ["the take-over alone", true, [], undefined],
    ["the decisions and the position", false, range(10, 20), 20],
    ["the decisions alone", false, range(10, 20), undefined],
    ["the take-over and the position", true, [], 20],
    ["all but the position", true, range(10, 20), undefined],
  ] as const)(
    "of a take-over that goes with a batch, %s: each record is decided once",
    async (_, took, offsets, position) => {
      await tenDone();
      const conductor = await conduct();
      const partitions = await placesOf(bus, topic);
      await worker("a");
      // It has computed up to where the other lets go, and no further.
      const b = await worker("b");
      await Promise.all([allCommitted("a"), allCommitted("b")]);
      await b.stop();
      await conductor.request({ epoch: 2, instruments: ["*"], from: "a", to: "b", partitions });
      const cut = () => conductor.state.partitions.get(`${topic}/0`)?.moves[0]?.cut;
      await waitFor("a to let go", async () => cut() !== undefined);
      const from = Number(cut());
      await send(20);
      const taken = { type: "taken", at: Date.now(), epoch: 2, revision: "b", topic, partition: 0 } as const;
      const record = ledgerRecord(name, { ...taken, cut: String(from), next: String(from) });
      const written = offsets.map((offset) => offset - 10 + from);
      await commitAs(
        [...outcomesOf(written, "b", 2), ...(took ? [record] : [])],
        position === undefined ? undefined : from + 10,
        "b",
        from,
      );
      await worker("b");
      await conductor.settle();
      await send(5);
      await Promise.all([allCommitted("a"), allCommitted("b")]);
      expect(await verdict()).toMatchObject({ inputs: sent, live: sent, pending: 0 });
    },
  );

  it("of a beginning: it begins where it was to", async () => {
    await send(10);
    const place = { topic, partition: 0 };
    const producer = await bus.transactionalProducer(transactionalId(name, "a", place));
    const record = { type: "started", at: Date.now(), revision: "a", ...place, offset: "0" } as const;
    await producer.commit({ records: [ledgerRecord(name, record)] });
    await producer.close();
    await worker("a");
    await allCommitted("a");
    expect(await verdict()).toMatchObject({ inputs: 10, live: 10 });
  });

  it("is told apart from a transaction that is open, and from one that was aborted", async () => {
    await tenDone();
    const kafka = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING });
    const other = kafka.producer({
      transactionalId: `open-${name}`,
      idempotent: true,
      maxInFlightRequests: 1,
    });
    await other.connect();
    const messages = outcomesOf([10, 11, 12]).map(({ headers, value }) => ({
      headers: { ...headers },
      value,
    }));
    const aborted = await other.transaction();
    await aborted.send({ topic: topics.signals(name), messages });
    await aborted.abort();
    const open = await other.transaction();
    await open.send({ topic: topics.signals(name), messages });
    // Not held up by it, and not taken in by it.
    await worker("a");
    await allCommitted("a");
    await open.abort();
    await other.disconnect();
    expect(await verdict()).toMatchObject({ inputs: 20, live: 20 });
  });
});
