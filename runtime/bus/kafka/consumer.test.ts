import { Registry } from "prom-client";
import { expect, it } from "vitest";
import { BusMetrics } from "../metrics.ts";
import { KafkaConsumer } from "./consumer.ts";
import type { Link } from "./link.ts";

/** Clients that behave as the library's: one that crashes while it begins says so, and its `run` resolves. */
function crashing(times: number): { readonly connect: () => Link; readonly made: () => number } {
  let made = 0;
  const consumer = () => {
    const crashes = ++made <= times;
    const listeners = new Map<string, (event: unknown) => void>();
    return {
      on: (name: string, listener: (event: unknown) => void) => listeners.set(name, listener),
      connect: async () => {},
      subscribe: async () => {},
      disconnect: async () => {},
      run: async () => {
        if (crashes) listeners.get("consumer.crash")?.({ payload: { error: new Error("no coordinator") } });
        else listeners.get("consumer.group_join")?.({ payload: { memberAssignment: {} } });
      },
    };
  };
  const end = async () => {};
  return { connect: () => ({ kafka: { consumer }, end }) as unknown as Link, made: () => made };
}

it("a consumer is made anew as often as it crashes while it begins", async () => {
  const { connect, made } = crashing(3);
  const options = { topics: ["t"], from: "earliest", onBatch: async () => {}, onFatal: () => {} } as const;
  const opened = await KafkaConsumer.open(connect, "g", options, new BusMetrics(new Registry()));
  expect(made()).toBe(4);
  await opened.close();
});
