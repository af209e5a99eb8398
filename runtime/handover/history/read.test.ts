import { afterEach, expect, it, vi } from "vitest";
import { MemoryBroker } from "#runtime/bus/memory/broker.ts";
import { MemoryBus } from "#runtime/bus/memory/index.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { claim, echo, echoWorker } from "#tests/support/handover.ts";
import { waitFor } from "#tests/support/wait.ts";
import { Conductor } from "../conductor.ts";
import type { DecisionWorker, WorkerOptions } from "../worker.ts";
import { verifyHistory } from "./read.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

it("says where a transaction keeps the history from being read for too long", async () => {
  const bus = new MemoryBus();
  const admin = await bus.admin();
  await admin.ensureTopics([{ name: "in", partitions: 1 }]);
  await claim(bus, "d", "a", "in");
  const held = topics.shadow("d");
  const ends = admin.ends.bind(admin);
  vi.spyOn(admin, "ends").mockImplementation(async (topic) =>
    topic === held ? new Map([[2, 7n]]) : ends(topic),
  );
  vi.spyOn(bus, "admin").mockResolvedValue(admin);
  let now = Date.now();
  vi.spyOn(Date, "now").mockImplementation(() => {
    now += 20_000;
    return now;
  });
  await expect(verifyHistory(bus, "d")).rejects.toMatchObject({
    code: "UNDECIDED",
    message: expect.stringContaining(`${held}/2 from 0`),
  });
});

/** What happens while a history is read: when the end of the live decisions is known, and before other outcomes are. */
function meanwhile(bus: MemoryBus, happens: () => Promise<unknown>): void {
  const open = bus.consumer.bind(bus);
  let happened = false;
  vi.spyOn(bus, "consumer").mockImplementation(async (options) => {
    if (!happened && options.topics.includes(topics.signals("d"))) {
      happened = true;
      await happens();
    }
    return open(options);
  });
}

/** A deployment of which `a` decides, and stands still, while `b` has gone on. */
async function deployment(options: Partial<WorkerOptions> = {}) {
  const broker = new MemoryBroker();
  const bus = new MemoryBus(broker);
  const admin = await bus.admin();
  await admin.ensureTopics([{ name: "in", partitions: 1 }]);
  await claim(bus, "d", "a", "in");
  const gate = Promise.withResolvers<void>();
  const workers: DecisionWorker[] = [];
  const start = async (revision: string) => {
    const worker = echoWorker({
      ...{ bus: new MemoryBus(broker), deployment: "d", revision, topics: ["in"], positionMs: 0, ...options },
      decide: async ({ records }) => {
        if (revision === "a" && records.some(({ offset }) => offset >= 5n)) await gate.promise;
        return echo(revision, records);
      },
    });
    workers.push(worker);
    await worker.start();
  };
  const at = (revision: string, offset: bigint) =>
    waitFor(`${revision} at ${offset}`, async () => {
      return (await admin.committed(`d.${revision}`, "in")).get(0) === offset;
    });
  await start("a");
  await start("b");
  const producer = await bus.producer();
  const send = async () => {
    for (let i = 0; i < 5; i++)
      await producer.send({ topic: "in", partition: 0, key: "BTCUSDT", value: Buffer.from("x") });
  };
  await send();
  await at("a", 5n);
  await send();
  await at("b", 10n);
  const conductor = new Conductor({ bus, deployment: "d" });
  await conductor.start();
  const end = async () => {
    gate.resolve();
    await conductor.close();
    await Promise.all(workers.map((worker) => worker.stop()));
    await bus.close();
  };
  const move = () => conductor.move(["BTCUSDT"], "b", [{ topic: "in", partition: 0 }]);
  return { bus, start, at, move, end };
}

it("misses nothing that is handed over while it reads", async () => {
  const { bus, move, end } = await deployment();
  meanwhile(bus, () => move());
  expect(await verifyHistory(bus, "d")).toMatchObject({
    ...{ violations: [], ok: true },
    counts: { live: 5, pending: 5, handovers: 2 },
  });
  expect(await verifyHistory(bus, "d")).toMatchObject({
    ...{ violations: [], ok: true },
    counts: { live: 10, pending: 0, handovers: 2 },
  });
  await end();
});

it("knows whose a take-over's decisions are before it has made all of them live", async () => {
  const filled = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  const { bus, move, end } = await deployment({
    fillRecords: 2,
    hook: async (step) => {
      if (step !== "filled") return;
      filled.resolve();
      await held.promise;
    },
  });
  const moved = move();
  await filled.promise;
  expect(await verifyHistory(bus, "d")).toMatchObject({
    ...{ violations: [], ok: true },
    counts: { live: 7, pending: 3, handovers: 1 },
  });
  held.resolve();
  await moved;
  expect((await verifyHistory(bus, "d")).counts).toMatchObject({ live: 10, pending: 0, handovers: 2 });
  await end();
});

it("knows a revision that begins while it reads", async () => {
  const { bus, start, at, end } = await deployment();
  meanwhile(bus, async () => {
    await start("c");
    await at("c", 10n);
  });
  expect(await verifyHistory(bus, "d")).toMatchObject({ violations: [], ok: true, counts: { shadow: 15 } });
  await end();
});
