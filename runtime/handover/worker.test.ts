import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { MemoryBroker } from "#runtime/bus/memory/broker.ts";
import { MemoryBus } from "#runtime/bus/memory/index.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { claim, echoWorker, memoryHaltCache, placesOf } from "#tests/support/handover.ts";
import { waitFor } from "#tests/support/wait.ts";
import { Conductor } from "./conductor.ts";
import { setHalt } from "./halt.ts";
import { haltRecord } from "./ledger.ts";
import { parseOutcome } from "./outcome.ts";

const DEPLOYMENT = "d";
const TOPIC = "md.crypto.main";
const INSTRUMENTS = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "ADAUSDT"];
let broker: MemoryBroker;
let bus: MemoryBus;
const opened: { stop(): Promise<void> }[] = [];

beforeEach(async () => {
  broker = new MemoryBroker();
  bus = new MemoryBus(broker);
  await (await bus.admin()).ensureTopics([{ name: TOPIC, partitions: 2 }]);
  await claim(bus, DEPLOYMENT, "a", TOPIC);
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((worker) => worker.stop()));
  await bus.close();
});

async function start(revision: string, extra: object = {}) {
  const worker = echoWorker({
    bus: new MemoryBus(broker),
    deployment: DEPLOYMENT,
    revision,
    topics: [TOPIC],
    ...extra,
  });
  opened.push(worker);
  await worker.start();
  return worker;
}

let sent = 0;
async function send(count: number): Promise<void> {
  const producer = await bus.producer();
  for (let i = 0; i < count; i++) {
    const key = INSTRUMENTS[sent % INSTRUMENTS.length] as string;
    await producer.send({ topic: TOPIC, partition: sent % 2, key, value: Buffer.from(String(sent++)) });
  }
}

async function conductor(): Promise<Conductor> {
  const conductor = new Conductor({ bus: new MemoryBus(broker), deployment: DEPLOYMENT });
  await conductor.start();
  opened.push({ stop: () => conductor.close() });
  return conductor;
}

const outcomes = (topic: string) =>
  broker.partitions(topic).flatMap((log) => log.flatMap((record) => parseOutcome(record.headers) ?? []));
const live = () => outcomes(topics.signals(DEPLOYMENT));

describe("a hand-over", () => {
  it("moves an instrument at a cut: each message is decided once, by the owner, and by the other in shadow", async () => {
    sent = 0;
    await start("a");
    await start("b");
    await send(100);
    await waitFor("decisions", () => live().length === 100);
    const boss = await conductor();
    await boss.move(["BTCUSDT"], "b", await placesOf(bus, TOPIC));
    await send(100);
    await waitFor("decisions", () => live().length === 200);
    await waitFor("shadows", () => outcomes(topics.shadow(DEPLOYMENT)).length === 200);
    const owners = (instrument: string) =>
      live()
        .filter((outcome) => outcome.instrument === instrument)
        .map(({ revision, epoch }) => `${revision}${epoch}`);
    expect(owners("BTCUSDT")).toEqual([...Array(25).fill("a1"), ...Array(25).fill("b2")]);
    expect(owners("ETHUSDT")).toEqual(Array(50).fill("a1"));
    const places = new Set(live().map(({ partition, offset }) => `${partition}/${offset}`));
    expect(places.size).toBe(200);
  });

  it("takes over in the transaction of the next batch where the stream flows", { retry: 2 }, async () => {
    const byB = () => live().filter(({ revision }) => revision === "b").length;
    const atTaken: number[] = [];
    // The next batch comes as soon as the owner has let go.
    await start("a", { hook: async (step: string) => (step === "released" ? send(10) : undefined) });
    await start("b", { hook: (step: string) => void (step === "taken" && atTaken.push(byB())) });
    await send(100);
    await waitFor("shadows", () => outcomes(topics.shadow(DEPLOYMENT)).length === 100);
    await (await conductor()).move(["*"], "b", await placesOf(bus, TOPIC));
    expect(atTaken[0]).toBeGreaterThan(0);
    await waitFor("decisions", () => live().length >= 110);
    expect(new Set(live().map(({ partition, offset }) => `${partition}/${offset}`)).size).toBe(live().length);
  });

  it("lets the next owner's batch wait for a release that was asked for, and not for ever", async () => {
    let letGo = () => {};
    const mayGo = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    let releasing = 0;
    let decided = 0;
    const shadows = () =>
      outcomes(topics.shadow(DEPLOYMENT)).filter(({ revision }) => revision === "b").length;
    await start("a", {
      hook: (step: string) => (step === "releasing" && ++releasing > 0 ? mayGo : undefined),
    });
    await start("b", {
      releaseSoonMs: 2_000,
      hook: (step: string) => void (step === "decided" && decided++),
    });
    await send(20);
    await waitFor("decisions", () => live().length === 20 && shadows() === 20);
    const before = decided;
    const moving = (await conductor()).move(["*"], "b", await placesOf(bus, TOPIC));
    await waitFor("it to be asked for", () => releasing === 2);
    await send(2);
    await waitFor("b's batches", () => decided === before + 2);
    await sleep(200);
    expect(shadows()).toBe(20);
    // Longer than it waits: its decisions go on, in shadow.
    await waitFor("it to go on", () => shadows() === 22, 10_000);
    letGo();
    await moving;
    await waitFor("decisions", () => live().length === 22);
    expect(new Set(live().map(({ partition, offset }) => `${partition}/${offset}`)).size).toBe(22);
  });

  it("moves everything, and back again", async () => {
    await start("a");
    await start("b");
    const boss = await conductor();
    const places = await placesOf(bus, TOPIC);
    expect(await boss.move(["BTCUSDT"], "b", places)).toEqual([2]);
    expect(await boss.move(["*"], "b", places)).toEqual([3]);
    expect(await boss.move(["*"], "b", places)).toEqual([]);
    expect(await boss.move(["*"], "a", places)).toEqual([4]);
    await send(10);
    await waitFor("decisions", () => live().length === 10);
    expect(new Set(live().map(({ revision, epoch }) => `${revision}${epoch}`))).toEqual(new Set(["a4"]));
  });

  it("begins with a new revision where the owner has got to, not later", async () => {
    await start("a");
    await send(50);
    const admin = await bus.admin();
    await waitFor("its position", async () => (await admin.committed("d.a", TOPIC)).get(0) === 25n);
    await start("b", { from: "latest" });
    const boss = await conductor();
    await waitFor(
      "its beginning",
      () => boss.state.partitions.get(`${TOPIC}/0`)?.started.get("b")?.offset === 25n,
    );
  });

  it("commits its position once in a while, and when it is asked to end", async () => {
    const a = await start("a", { positionMs: 3_600_000 });
    for (const count of [2, 20]) {
      await send(count);
      await waitFor("decisions", () => live().length === (count === 2 ? 2 : 22));
    }
    const admin = await bus.admin();
    const position = async () =>
      [...(await admin.committed("d.a", TOPIC)).values()].reduce((sum, offset) => sum + offset, 0n);
    expect(await position()).toBeLessThan(22n);
    await a.stop();
    expect(await position()).toBe(22n);
  });

  it("takes over from its own shadow records when it has forgotten what it decided", async () => {
    await start("a");
    const b = await start("b", { ringBytes: 1 });
    await send(40);
    await waitFor("shadows", () => outcomes(topics.shadow(DEPLOYMENT)).length === 40);
    // a stops where it is; b goes on, and then has to fill in from far back.
    await opened[0]?.stop();
    await send(40);
    await waitFor("shadows of b", () => outcomes(topics.shadow(DEPLOYMENT)).length === 80);
    const boss = new Conductor({
      bus: new MemoryBus(broker),
      deployment: DEPLOYMENT,
      deadlines: { releaseMs: 0, takeMs: 10_000 },
    });
    await boss.start();
    await boss.move(["*"], "b", await placesOf(bus, TOPIC));
    await boss.close();
    expect(live()).toHaveLength(80);
    expect(live().filter(({ revision }) => revision === "b")).toHaveLength(40);
    expect(b.assignment()).toHaveLength(2);
  });

  it("hands back what the other does not take, and the first decides again without a gap", async () => {
    await start("a");
    await send(20);
    await waitFor("decisions", () => live().length === 20);
    const boss = new Conductor({
      bus: new MemoryBus(broker),
      deployment: DEPLOYMENT,
      deadlines: { releaseMs: 100, takeMs: 300 },
    });
    await boss.start();
    const moving = boss.move(["BTCUSDT"], "nobody", await placesOf(bus, TOPIC));
    await send(20);
    expect(await moving).toEqual([2]);
    await boss.close();
    await send(20);
    await waitFor("decisions", () => live().length === 60);
    expect(new Set(live().map(({ partition, offset }) => `${partition}/${offset}`)).size).toBe(60);
    expect(boss.state.epoch).toBe(3);
  });

  it("withholds live decisions while halted, and makes them again afterwards", async () => {
    const cache = memoryHaltCache();
    await start("a", { haltCache: cache });
    await send(10);
    await waitFor("decisions", () => live().length === 10);
    const { halt } = await setHalt(bus, DEPLOYMENT, cache, {
      halted: true,
      reason: "test",
      known: undefined,
    });
    await waitFor("the follower", () => broker.partitions(topics.control(DEPLOYMENT))[0]?.length === 1);
    await send(10);
    const withheld = () => outcomes(topics.shadow(DEPLOYMENT)).filter(({ action }) => action === "withheld");
    await waitFor("withheld", () => withheld().length === 10);
    expect(live()).toHaveLength(10);
    await setHalt(bus, DEPLOYMENT, cache, { halted: false, reason: "over", known: halt });
    await waitFor("the follower", () => broker.partitions(topics.control(DEPLOYMENT))[0]?.length === 2);
    await send(10);
    await waitFor("decisions", () => live().length === 20);
  });

  it("halts although the latest release in Kafka and in Redis is numbered beyond all clocks", async () => {
    const cache = memoryHaltCache();
    const far = { halted: false, reason: "a wrong clock", sequence: Number.MAX_SAFE_INTEGER, at: 0 };
    await cache.set(far);
    await (await bus.producer()).send(haltRecord(DEPLOYMENT, far));
    await start("a", { haltCache: cache });
    await setHalt(bus, DEPLOYMENT, cache, { halted: true, reason: "test", known: far });
    const control = () => broker.partitions(topics.control(DEPLOYMENT))[0]?.length;
    await waitFor("the follower", () => control() === 2);
    await send(10);
    const withheld = () => outcomes(topics.shadow(DEPLOYMENT)).filter(({ action }) => action === "withheld");
    await waitFor("withheld", () => withheld().length === 10);
    expect(live()).toHaveLength(0);
  });

  it("deposes a conductor when another begins", async () => {
    await start("a");
    const old = await conductor();
    await old.settle();
    await conductor();
    const request = {
      epoch: 2,
      instruments: ["BTCUSDT"],
      from: "a",
      to: "b",
      partitions: await placesOf(bus, TOPIC),
    };
    await expect(old.request(request)).rejects.toMatchObject({ code: "DEPOSED" });
  });

  it("refuses what cannot be", async () => {
    const boss = await conductor();
    const partitions = await placesOf(bus, TOPIC);
    const base = { epoch: 2, instruments: ["BTCUSDT"], from: "a", to: "b", partitions };
    // The first owner has not taken over yet.
    await expect(boss.request(base)).rejects.toMatchObject({ code: "REFUSED" });
    await start("a");
    await boss.settle();
    for (const wrong of [{ epoch: 1 }, { from: "b", to: "a" }, { to: "a" }, { from: null }]) {
      await expect(boss.request({ ...base, ...wrong })).rejects.toMatchObject({ code: "REFUSED" });
    }
  });
});
