import type { Kafka } from "kafkajs";
import { Registry } from "prom-client";
import { expect, it } from "vitest";
import { BusMetrics } from "../metrics.ts";
import { KafkaConsumer } from "./consumer.ts";

/** Clients that behave as the library's: one that crashes while it begins says so, and its `run` resolves. */
function crashing(times: number): { readonly kafka: Kafka; readonly made: () => number } {
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
  return { kafka: { consumer } as unknown as Kafka, made: () => made };
}

it("a consumer is made anew as often as it crashes while it begins", async () => {
  const { kafka, made } = crashing(3);
  const options = { topics: ["t"], from: "earliest", onBatch: async () => {}, onFatal: () => {} } as const;
  const opened = await KafkaConsumer.open(kafka, "g", options, new BusMetrics(new Registry()));
  expect(made()).toBe(4);
  await opened.close();
});
