import type { KafkaMessage } from "kafkajs";
import { Registry } from "prom-client";
import { expect, it } from "vitest";
import { waitFor } from "#tests/support/wait.ts";
import { BusMetrics } from "../metrics.ts";
import { toRecord } from "./assigned.ts";
import type { Unreadable } from "./batches.ts";
import { KafkaConsumer } from "./consumer.ts";
import type { Link } from "./link.ts";

type EachBatch = (payload: object) => Promise<void>;

/** What stands in for a client of the library. */
interface Client {
  /** Where it was told to read on. */
  readonly sought: string[];
  readonly emit: (event: string, payload: object) => void;
  /** Fetched records with from ≤ offset < to. */
  readonly deliver: (from: number, to: number) => Promise<void>;
}

/** Clients that behave as the library's, and do what is said when they run. */
function running(run: (client: Client) => void): { readonly connect: () => Link; readonly made: Client[] } {
  const made: Client[] = [];
  const consumer = () => {
    const listeners = new Map<string, (event: unknown) => void>();
    let eachBatch: EachBatch = async () => {};
    const client: Client = {
      sought: [],
      emit: (event, payload) => listeners.get(event)?.({ payload }),
      deliver: (from, to) => {
        const messages = Array.from({ length: to - from }, (_, i) => ({
          ...{ offset: String(from + i), key: null, value: Buffer.from("x"), headers: {}, timestamp: "0" },
        }));
        const batch = {
          ...{ topic: "t", partition: 0, highWatermark: String(to), messages },
          ...{ firstOffset: () => String(from), lastOffset: () => String(to - 1) },
        };
        return eachBatch({ batch, isStale: () => false });
      },
    };
    made.push(client);
    return {
      on: (name: string, listener: (event: unknown) => void) => listeners.set(name, listener),
      connect: async () => {},
      subscribe: async () => {},
      disconnect: async () => {},
      pause: () => {},
      resume: () => {},
      seek: ({ offset }: { readonly offset: string }) => client.sought.push(offset),
      run: async (options: { readonly eachBatch: EachBatch }) => {
        eachBatch = options.eachBatch;
        run(client);
      },
    };
  };
  const link = { kafka: { consumer }, end: async () => {} } as unknown as Link;
  return { connect: () => link, made };
}

it("what was handed out is not handed out again by a client that replaces another, where there is no group", async () => {
  const { connect, made } = running(({ emit }) =>
    emit("consumer.group_join", { memberAssignment: { t: [0] } }),
  );
  const read: bigint[] = [];
  const opened = await KafkaConsumer.open(
    connect,
    "g",
    {
      ...{ topics: ["t"], from: "earliest", onFatal: () => {} },
      onBatch: async ({ records }) => void read.push(...records.map(({ offset }) => offset)),
    },
    new BusMetrics(new Registry()),
  );
  await made[0]?.deliver(0, 3);
  await waitFor("the first", () => read.length === 3);
  made[0]?.emit("consumer.crash", { error: new Error("the connection is lost") });
  await waitFor("another client", () => made[1]?.sought.includes("3"));
  await made[1]?.deliver(0, 5);
  await waitFor("the rest", () => read.length >= 5);
  expect(read).toEqual([0n, 1n, 2n, 3n, 4n]);
  await opened.close();
});

it("a consumer is made anew as often as it crashes while it begins", async () => {
  // One that crashes while it begins says so, and its `run` resolves.
  const { connect, made } = running(({ emit }) => {
    if (made.length <= 3) emit("consumer.crash", { error: new Error("no coordinator") });
    else emit("consumer.group_join", { memberAssignment: {} });
  });
  const options = { topics: ["t"], from: "earliest", onBatch: async () => {}, onFatal: () => {} } as const;
  const opened = await KafkaConsumer.open(connect, "g", options, new BusMetrics(new Registry()));
  expect(made).toHaveLength(4);
  await opened.close();
});

/** What a broker says of t/0 when it is asked from an offset. */
const answer = (fetchedOffset: number, end: number, unreadable?: Unreadable) => ({
  answers: [
    {
      ...{ topic: "t", partition: 0, fetchedOffset: String(fetchedOffset), rawMessages: [], unreadable },
      ...{ highWatermark: String(end), lastStableOffset: String(end) },
    },
  ],
});

it("ends with where and why when a batch cannot be decoded, after what is before it, and is not made anew", async () => {
  const { connect, made } = running(({ emit }) =>
    emit("consumer.group_join", { memberAssignment: { t: [0] } }),
  );
  const read: bigint[] = [];
  const fatal: Error[] = [];
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const metrics = new Registry();
  await KafkaConsumer.open(
    connect,
    "g",
    {
      ...{ topics: ["t"], from: "earliest", onFatal: (error) => fatal.push(error) },
      onBatch: async ({ records }) => {
        await held;
        read.push(...records.map(({ offset }) => offset));
      },
    },
    new BusMetrics(metrics),
  );
  await made[0]?.deliver(0, 3);
  const unreadable = { offset: 3n, codec: "5", reason: "the codec is not known" };
  for (let times = 0; times < 5; times++) made[0]?.emit("consumer.fetch", answer(3, 9, unreadable));
  await Promise.resolve();
  expect(fatal).toEqual([]);
  release();
  await waitFor("the end", () => fatal.length > 0);
  expect(read).toEqual([0n, 1n, 2n]);
  expect(fatal).toHaveLength(1);
  expect(fatal[0]).toMatchObject({
    code: "UNREADABLE_BATCH",
    message: expect.stringContaining("t/0 at offset 3, codec 5: the codec is not known"),
  });
  expect(made).toHaveLength(1);
  expect(await metrics.getSingleMetricAsString("baton_bus_errors_total")).toContain(
    'code="UNREADABLE_BATCH"} 1',
  );
});

it("reads on where somebody seeks past a batch that cannot be decoded", async () => {
  const { connect, made } = running(({ emit }) =>
    emit("consumer.group_join", { memberAssignment: { t: [0] } }),
  );
  const read: bigint[] = [];
  const opened = await KafkaConsumer.open(
    connect,
    "g",
    {
      ...{ topics: ["t"], from: "earliest", onFatal: () => expect.unreachable() },
      onAssigned: async () => {
        // Fetched while it is asked where to begin.
        made[0]?.emit("consumer.fetch", answer(0, 9, { offset: 0n, codec: "lz4", reason: "broken" }));
        return 4n;
      },
      onBatch: async ({ records }) => void read.push(...records.map(({ offset }) => offset)),
    },
    new BusMetrics(new Registry()),
  );
  await waitFor("the place", () => made[0]?.sought.includes("4"));
  await made[0]?.deliver(4, 6);
  await waitFor("what is behind it", () => read.length === 2);
  await opened.close();
});

it("makes no progress by clients that join and read nothing while records wait", async () => {
  const { connect, made } = running(({ emit }) => {
    emit("consumer.group_join", { memberAssignment: { t: [0] } });
    emit("consumer.fetch", answer(0, 20));
    if (made.length < 3) emit("consumer.crash", { error: new Error("cannot be decoded") });
  });
  const metrics = new Registry();
  const opened = await KafkaConsumer.open(
    connect,
    "g",
    { topics: ["t"], from: "earliest", onFatal: () => {}, onBatch: async () => {} },
    new BusMetrics(metrics),
  );
  const before = opened.lastProgress();
  await waitFor("the third client", () => made.length === 3 && opened.assignment().length === 1);
  made[2]?.emit("consumer.heartbeat", {});
  expect(opened.lastProgress()).toBe(before);
  expect(opened.behind()).toEqual([{ topic: "t", partition: 0, offset: 0n, end: 20n, since: before }]);
  expect(await metrics.getSingleMetricAsString("baton_bus_lag_records")).toMatch(/} 20$/m);
  await made[2]?.deliver(0, 20);
  await waitFor("progress", () => opened.lastProgress() > before);
  expect(opened.behind()).toEqual([]);
  await opened.close();
});

it("reads a record whose headers are null, without them", () => {
  const headers = { none: null, list: [Buffer.from("a"), null], text: Buffer.from("b") };
  const message = { ...{ offset: "0", key: null, value: null, timestamp: "0", attributes: 0 }, headers };
  expect(toRecord("t", 0, 0n, message as unknown as KafkaMessage).headers).toEqual({ text: "b" });
});

it("has read to the end where a broker has nothing of before any more", async () => {
  const { connect, made } = running(({ emit }) =>
    emit("consumer.group_join", { memberAssignment: { t: [0] } }),
  );
  const opened = await KafkaConsumer.open(
    connect,
    "g",
    {
      ...{ topics: ["t"], from: "earliest", onFatal: () => expect.unreachable() },
      ...{ onAssigned: async () => 4n, onBatch: async () => {} },
    },
    new BusMetrics(new Registry()),
  );
  await waitFor("the place", () => made[0]?.sought.includes("4"));
  made[0]?.emit("consumer.fetch", answer(4, 900));
  expect(opened.behind()).toMatchObject([{ offset: 4n, end: 900n }]);
  made[0]?.emit("consumer.fetch", answer(900, 900));
  expect(opened.behind()).toEqual([]);
  const place = { topic: "t", partition: 0 };
  expect(opened.position(place)).toBe(900n);
  // A shorter log is another one.
  made[0]?.emit("consumer.fetch", answer(0, 0));
  expect(opened.position(place)).toBe(900n);
  await opened.close();
});
