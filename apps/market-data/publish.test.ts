import { Registry } from "prom-client";
import { expect, it } from "vitest";
import type { OutRecord, Producer } from "#runtime/bus/port.ts";
import { decode, MarketData } from "#runtime/contracts/index.ts";
import type { Rejection } from "./errors.ts";
import { MarketDataMetrics } from "./metrics.ts";
import { Feeds, rejections } from "./observe.ts";
import { publish } from "./publish.ts";
import type { Source } from "./source.ts";

const trade = (change: object = {}) =>
  ({
    ...{
      type: "trade",
      instrument: "BTCUSDT",
      assetClass: "crypto",
      eventTime: 1_735_689_600_000,
      sequence: 0,
    },
    ...{ price: 1, size: 1, side: "buy" },
    ...change,
  }) as MarketData;

function producer(send: Producer["send"]): Producer {
  return { send, flush: async () => {}, close: async () => {} };
}

const run = async (messages: readonly MarketData[], send: Producer["send"]) => {
  const rejected: Rejection[] = [];
  let counted = 0;
  const source: Source = async function* (signal) {
    for (const message of messages) {
      if (signal.aborted) return;
      yield message;
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const count = await publish(
    {
      ...{ source, topic: "md.crypto.main", traceEvery: 0, producer: producer(send) },
      onMessage: () => {
        counted += 1;
      },
      onRejected: (rejection) => rejected.push(rejection),
    },
    new AbortController().signal,
  );
  return { count, counted, rejected };
};

it("publishes what is of the contract, and rejects the rest one by one", async () => {
  const sent: OutRecord[] = [];
  const send = async (record: OutRecord) => {
    sent.push(record);
    return { topic: record.topic, partition: 0, offset: 0n };
  };
  const bad = [{ price: 0 }, { eventTime: 1.5 }, { instrument: "btc/usdt" }, { side: "both" }].map(trade);
  const { count, counted, rejected } = await run([trade(), ...bad, trade({ side: undefined })], send);
  expect([count, counted]).toEqual([2, 2]);
  expect(sent.map(({ key, value }) => [key, decode(MarketData, value)])).toEqual([
    ["BTCUSDT", trade()],
    ["BTCUSDT", expect.not.objectContaining({ side: expect.anything() })],
  ]);
  expect(rejected.map(({ code }) => code)).toEqual(["INVALID", "INVALID", "INVALID", "INVALID"]);
});

it("ends with the error of a record that is not delivered", async () => {
  const send = () => Promise.reject(new Error("no broker"));
  await expect(run([trade(), trade(), trade()], send)).rejects.toThrow("no broker");
});

it("counts every rejection, and logs the first of a reason", async () => {
  const registry = new Registry();
  const lines: unknown[] = [];
  const onRejected = rejections(new MarketDataMetrics(registry), {
    warn: (line: unknown) => void lines.push(line),
  });
  for (let i = 0; i < 1_000; i++) onRejected({ code: "INVALID", detail: `row ${i}` });
  onRejected({ code: "DUPLICATE", detail: "7" });
  expect(lines).toEqual([
    { code: "INVALID", detail: "row 0", suppressed: 0 },
    { code: "DUPLICATE", detail: "7", suppressed: 0 },
  ]);
  expect(await registry.metrics()).toContain(
    'baton_market_data_rejected_messages_total{code="INVALID"} 1000',
  );
});

it("is not ready while a feed is lost, and says which", async () => {
  const registry = new Registry();
  const feeds = new Feeds(new MarketDataMetrics(registry), { info: () => {}, warn: () => {} });
  feeds.onFeed("BTCUSDT", { kind: "connecting" });
  feeds.onFeed("ETHUSDT", { kind: "connected" });
  expect(await feeds.check()).toEqual({ BTCUSDT: "connecting", ETHUSDT: "connected" });
  feeds.onFeed("ETHUSDT", { kind: "lost", failures: 3, retryInMs: 10, error: "code 1006" });
  await expect(feeds.check()).rejects.toThrow("live trades are lost: ETHUSDT: code 1006 (3 in a row)");
  expect(await registry.metrics()).toContain('baton_market_data_feed_connected{instrument="ETHUSDT"} 0');
  feeds.onFeed("ETHUSDT", { kind: "connected" });
  expect(await feeds.check()).toEqual({ BTCUSDT: "connecting", ETHUSDT: "connected" });
});
