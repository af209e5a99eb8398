import { Registry } from "prom-client";
import { expect, it } from "vitest";
import { waitFor } from "#tests/support/wait.ts";
import { BusMetrics } from "../metrics.ts";
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
