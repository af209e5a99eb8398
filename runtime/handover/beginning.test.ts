import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { MemoryBroker } from "#runtime/bus/memory/broker.ts";
import { MemoryBus } from "#runtime/bus/memory/index.ts";
import { REST } from "#runtime/contracts/ledger.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { claim, echo, echoWorker, placesOf } from "#tests/support/handover.ts";
import { waitFor } from "#tests/support/wait.ts";
import { Conductor } from "./conductor.ts";
import { verifyHistory } from "./history/read.ts";
import { ensureDeploymentTopics } from "./ledger.ts";
import { OUTCOME_HEADER, type Outcome, outcomeRecord, parseOutcome } from "./outcome.ts";
import { encodeMark } from "./repair.ts";
import { partitionState } from "./rules.ts";
import { groupOf, leftoversOf, transactionalId } from "./standing.ts";
import type { DecisionWorker, WorkerOptions } from "./worker.ts";

// Where a revision goes on that comes back: what it owes is what it may be asked to decide, and no more.

const NAME = "d";
const TOPIC = "md.crypto.main";
const PLACE = { topic: TOPIC, partition: 0 };
const INSTRUMENTS = ["BTCUSDT", "ETHUSDT"];
/** Most that a revision works off here. */
const OWED = 20;
const AWAY = 300;

let broker: MemoryBroker;
let bus: MemoryBus;
let sent: number;
const opened: { stop(): Promise<void> }[] = [];

beforeEach(async () => {
  broker = new MemoryBroker();
  bus = new MemoryBus(broker);
  sent = 0;
  await (await bus.admin()).ensureTopics([{ name: TOPIC, partitions: 1 }]);
  await claim(bus, NAME, "a", TOPIC);
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((part) => part.stop()));
  await bus.close();
});

async function start(revision: string, extra: Partial<WorkerOptions> = {}): Promise<DecisionWorker> {
  const options = { bus: new MemoryBus(broker), deployment: NAME, revision, topics: [TOPIC] };
  const worker = echoWorker({ ...options, positionMs: 0, owedRecords: OWED, ...extra });
  opened.push(worker);
  await worker.start();
  return worker;
}

async function conduct(releaseMs = 30_000, takeMs = 30_000): Promise<Conductor> {
  const conductor = new Conductor({ bus, deployment: NAME, deadlines: { releaseMs, takeMs } });
  opened.push({ stop: () => conductor.close() });
  await conductor.start();
  return conductor;
}

async function send(count: number): Promise<void> {
  const producer = await bus.producer();
  for (let i = 0; i < count; i++, sent++) {
    const key = INSTRUMENTS[sent % INSTRUMENTS.length] as string;
    await producer.send({ ...PLACE, key, value: Buffer.from(String(sent)) });
  }
}

async function at(revision: string, offset = sent): Promise<void> {
  const admin = await bus.admin();
  await waitFor(`${revision} at ${offset}`, async () => {
    return (await admin.committed(groupOf(NAME, revision), TOPIC)).get(0) === BigInt(offset);
  });
}

/** The input offsets of a revision's shadow outcomes. */
const shadows = (revision: string) =>
  broker
    .partitions(topics.shadow(NAME))
    .flat()
    .flatMap(({ headers }) => parseOutcome(headers) ?? [])
    .filter((outcome) => outcome.revision === revision)
    .map(({ offset }) => Number(offset));

/** a decides on everything; b has computed ten records, and is gone while many more come in. */
async function bAway(): Promise<DecisionWorker> {
  const a = await start("a");
  const b = await start("b");
  await send(10);
  await Promise.all([at("a"), at("b")]);
  await b.stop();
  await send(AWAY);
  await at("a");
  return a;
}

async function move(instruments: readonly string[], to: string, releaseMs?: number): Promise<void> {
  const conductor = await conduct(releaseMs);
  await conductor.move(instruments, to, await placesOf(bus, TOPIC));
}

async function holds(live = sent) {
  const { violations, counts } = await verifyHistory(bus, NAME);
  expect(violations).toEqual([]);
  expect(counts).toMatchObject({ inputs: sent, live, pending: sent - live });
}

/** What a worker would write about input offsets. */
function outcomes(revision: string, offsets: readonly number[], epoch?: number) {
  const to = {
    live: topics.signals(NAME),
    shadow: topics.shadow(NAME),
    deadLetters: topics.deadLetters(NAME),
    shadowPartitions: broker.partitions(topics.shadow(NAME)).length,
  };
  return offsets.map((offset) => {
    const instrument = INSTRUMENTS[offset % INSTRUMENTS.length] as string;
    const outcome: Outcome = {
      input: { ...PLACE, offset: BigInt(offset) },
      ...{ instrument, kind: "decision", key: instrument, value: Buffer.from("x") },
      headers: {
        [OUTCOME_HEADER.input]: `${TOPIC}/0/${offset}`,
        [OUTCOME_HEADER.instrument]: instrument,
        [OUTCOME_HEADER.revision]: revision,
      },
    };
    return outcomeRecord(outcome, epoch === undefined ? "shadow" : "live", epoch, to);
  });
}

async function writer(revision: string) {
  return bus.transactionalProducer(transactionalId(NAME, revision, PLACE), {
    leftovers: await leftoversOf(bus, NAME, revision, PLACE),
  });
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

describe("a revision that decides on nothing and comes back", () => {
  it.each([1, 100])(
    "begins where the owner has got to, whatever came in (%i times as much)",
    async (times) => {
      await bAway();
      for (let i = 1; i < times; i++) await send(30);
      await at("a");
      const back = sent;
      await start("b");
      await at("b");
      await send(10);
      await at("b");
      expect(shadows("b")).toEqual([...range(0, 10), ...range(back, back + 10)]);
      await move([REST], "b");
      await send(10);
      await Promise.all([at("a"), at("b")]);
      await holds();
    },
  );

  it("begins there too when it had decided before, and was rolled back", async () => {
    await start("a");
    const b = await start("b");
    await move(["BTCUSDT"], "b");
    await send(20);
    await Promise.all([at("a"), at("b")]);
    await move(["BTCUSDT"], "a");
    await send(20);
    await Promise.all([at("a"), at("b")]);
    await b.stop();
    const left = shadows("b").length;
    await send(AWAY);
    await at("a");
    await start("b");
    await at("b");
    expect(shadows("b")).toHaveLength(left);
    await move(["BTCUSDT"], "b");
    await send(20);
    await Promise.all([at("a"), at("b")]);
    await holds();
  });

  it("works off what is not much", async () => {
    const a = await start("a");
    const b = await start("b");
    await send(10);
    await Promise.all([at("a"), at("b")]);
    await b.stop();
    await send(OWED);
    await at("a");
    await start("b");
    await at("b");
    expect(shadows("b")).toEqual(range(0, 10 + OWED));
    await a.stop();
    await holds();
  });

  it("begins no later than the one who is furthest behind of those who decide", async () => {
    const a = await start("a");
    const c = await start("c");
    await move(["ETHUSDT"], "c");
    const b = await start("b");
    await send(10);
    await Promise.all([at("a"), at("b"), at("c")]);
    await b.stop();
    await send(100);
    await Promise.all([at("a"), at("c")]);
    await c.stop();
    await send(100);
    await at("a");
    await start("b");
    await at("b");
    expect(shadows("b").filter((offset) => offset >= 10)).toEqual(range(110, 210));
    await move(["ETHUSDT"], "b", 100);
    await start("c");
    await at("c");
    await a.stop();
    await holds();
  });

  it("begins no later than where the owner has let go for it", async () => {
    const a = await start("a");
    const b = await start("b");
    await send(10);
    await Promise.all([at("a"), at("b")]);
    await b.stop();
    await send(100);
    await at("a");
    const conductor = await conduct();
    const partitions = await placesOf(bus, TOPIC);
    await conductor.request({ epoch: 2, instruments: ["BTCUSDT"], from: "a", to: "b", partitions });
    await waitFor("a to let go", () => partitionState(conductor.state, PLACE).moves[0]?.cut === 110n);
    await send(100);
    await at("a");
    await start("b");
    await conductor.settle();
    await at("b");
    expect(shadows("b").filter((offset) => offset < 110)).toEqual(range(0, 10));
    await a.stop();
    await holds();
  });

  it("begins no later than where the owner has let go for another, from which it may come to this one", async () => {
    await bAway();
    const conductor = await conduct();
    const partitions = await placesOf(bus, TOPIC);
    const cut = BigInt(sent);
    await conductor.request({ epoch: 2, instruments: ["BTCUSDT"], from: "a", to: "c", partitions });
    await waitFor("a to let go", () => partitionState(conductor.state, PLACE).moves[0]?.cut === cut);
    await send(100);
    await at("a");
    // Both have to have what c, which has never been there, is to decide first.
    await start("b");
    await start("e");
    await Promise.all([at("b"), at("e")]);
    for (const revision of ["b", "e"]) expect(shadows(revision)).toContain(Number(cut));
    const held = Promise.withResolvers<void>();
    await start("c", { decide: ({ records }) => held.promise.then(() => echo("c", records)) });
    await conductor.settle();
    await conductor.move(["BTCUSDT"], "b", partitions);
    held.resolve();
    await send(10);
    await Promise.all(["a", "b", "c", "e"].map((revision) => at(revision)));
    await holds();
    expect(partitionState(conductor.state, PLACE).holdings.get("BTCUSDT")).toMatchObject({
      revision: "b",
      from: cut,
    });
  });

  it("does not take over from a cut below where it began: it goes back, and nothing is lost", async () => {
    const a = await start("a");
    const b = await start("b");
    await send(10);
    await Promise.all([at("a"), at("b")]);
    await Promise.all([a.stop(), b.stop()]);
    await send(200);
    // Half of a commit: the position is there, and of the outcomes those below 100 only.
    const producer = await writer("a");
    await producer.commit({ records: outcomes("a", range(10, 100), 1) });
    const metadata = encodeMark({ from: 100n, count: 110, kind: "batch", at: Date.now() });
    const positions = [{ ...PLACE, offset: 210n }];
    await producer.commit({ records: [], offsets: { group: groupOf(NAME, "a"), positions, metadata } });
    await producer.close();
    for (const revision of ["b", "e"]) await start(revision);
    await send(10);
    await Promise.all([at("b"), at("e")]);
    const held = Promise.withResolvers<void>();
    await start("a", {
      decide: ({ records }) => held.promise.then(() => echo("a", records)),
    });
    const conductor = await conduct(30_000, 300);
    for (const to of ["b", "e"]) await conductor.move([REST], to, await placesOf(bus, TOPIC));
    held.resolve();
    await at("a");
    await holds();
    expect(partitionState(conductor.state, PLACE).holdings.get(REST)).toMatchObject({
      revision: "a",
      from: 100n,
    });
  });

  it("writes nothing again that it wrote behind its last position", async () => {
    const a = await start("a");
    const b = await start("b", { positionMs: 3_600_000 });
    await send(10);
    await Promise.all([at("a"), waitFor("b", () => shadows("b").length === 10)]);
    await b.stop();
    // It was far ahead of the owner, and was killed before it said so.
    const producer = await writer("b");
    await send(100);
    await at("a");
    await a.stop();
    await send(100);
    await producer.commit({ records: outcomes("b", range(10, 210)) });
    await producer.close();
    await start("b");
    await at("b");
    expect(shadows("b")).toEqual(range(0, 210));
    await start("a");
    await at("a");
    await move([REST], "b");
    await holds();
  });

  it("goes on from its position where some instruments are nobody's", async () => {
    broker = new MemoryBroker();
    bus = new MemoryBus(broker);
    await (await bus.admin()).ensureTopics([{ name: TOPIC, partitions: 1 }]);
    await ensureDeploymentTopics(bus, NAME, { partitions: 4, replicas: 1 });
    const conductor = await conduct();
    const partitions = await placesOf(bus, TOPIC);
    await conductor.request({ epoch: 1, instruments: ["BTCUSDT"], from: null, to: "a", partitions });
    await start("a");
    const b = await start("b");
    await send(10);
    await at("b");
    await b.stop();
    await send(100);
    await at("a");
    await start("b");
    await at("b");
    expect(shadows("b")).toEqual(range(0, 110));
  });

  it("leaves out what comes before the cut that it has taken over at, and nothing of its own", async () => {
    const a = await start("a");
    const held = Promise.withResolvers<void>();
    const b = await start("b", { decide: () => held.promise.then(() => []) });
    await send(100);
    await at("a");
    await move(["BTCUSDT"], "b");
    const stopped = b.stop();
    held.resolve();
    await stopped;
    await send(100);
    await at("a");
    await start("b");
    await at("b");
    expect(Math.min(...shadows("b"))).toBeGreaterThanOrEqual(100);
    await a.stop();
    await holds();
  });

  it("says what it left out, and once", async () => {
    await bAway();
    const back = sent;
    const again = await start("b");
    await at("b");
    await again.stop();
    await start("b");
    await at("b");
    const conductor = await conduct();
    const { started } = partitionState(conductor.state, PLACE);
    expect(started.get("b")?.offset).toBe(BigInt(back));
    const beginnings = broker
      .partitions(topics.ledger(NAME))
      .flat()
      .filter(({ key }) => key === `started/b/${TOPIC}/0`)
      .map(({ value }) => JSON.parse(String(value)) as { offset: string; left?: string });
    expect(beginnings).toMatchObject([{ offset: "0" }, { offset: String(back), left: "10" }]);
    expect(beginnings[0]).not.toHaveProperty("left");
  });
});
