import fc from "fast-check";
import { expect, it } from "vitest";
import type { MarketData } from "#runtime/contracts/index.ts";
import { TICKS_VIEW, TickFeatures } from "./ticks.ts";

const trade = (price: number, side: "buy" | "sell" = "buy", size = 1): MarketData => ({
  type: "trade",
  instrument: "BTCUSDT",
  assetClass: "crypto",
  eventTime: 0,
  sequence: 0,
  price,
  size,
  side,
});

const named = (features: TickFeatures) =>
  Object.fromEntries(features.vector().map((value, i) => [TICKS_VIEW.features[i] ?? "", value]));

it("has a value for every feature of its view, and none but 1 for the ratio before the first message", () => {
  const vector = new TickFeatures().vector();
  expect(vector).toHaveLength(TICKS_VIEW.features.length);
  expect(named(new TickFeatures())).toMatchObject({ return_1: 0, volatility_ratio: 1, spread_bps: 0 });
});

it("measures returns in basis points", () => {
  const features = new TickFeatures();
  features.update(trade(100));
  features.update(trade(100.01));
  expect(named(features)["return_1"]).toBeCloseTo(1, 3);
});

it("tells a run of buying from a run of selling", () => {
  const features = new TickFeatures();
  for (let i = 0; i < 100; i++) features.update(trade(100, "sell"));
  expect(named(features)["flow_10"]).toBeLessThan(-0.9);
  for (let i = 0; i < 100; i++) features.update(trade(100, "buy"));
  expect(named(features)["flow_10"]).toBeGreaterThan(0.9);
});

it("takes a trade whose side is not known for neither buying nor selling", () => {
  const features = new TickFeatures();
  for (let i = 0; i < 100; i++) features.update(trade(100, "buy"));
  const before = named(features)["flow_10"] ?? 0;
  const { side: _, ...unknown } = trade(100) as Extract<MarketData, { type: "trade" }>;
  for (let i = 0; i < 10; i++) features.update(unknown);
  // Half of what was bought is forgotten after a half-life of 10 trades; nothing is sold.
  expect(named(features)["flow_10"]).toBeCloseTo(before / 2, 6);
});

it("reads spread and imbalance off the book", () => {
  const features = new TickFeatures();
  const {
    price: _,
    size: __,
    side: ___,
    type: ____,
    ...common
  } = trade(1) as Extract<MarketData, { type: "trade" }>;
  features.update({ type: "bookTop", ...common, bidPrice: 99.99, bidSize: 3, askPrice: 100.01, askSize: 1 });
  expect(named(features)["spread_bps"]).toBeCloseTo(2, 6);
  expect(named(features)["book_imbalance"]).toBeCloseTo(0.5, 6);
});

it("stays finite whatever the prices and sizes", () => {
  const messages = fc.array(
    fc.tuple(
      fc.double({ min: 1e-9, max: 1e9, noNaN: true }),
      fc.double({ min: 0, max: 1e9, noNaN: true }),
      fc.boolean(),
    ),
    { maxLength: 300 },
  );
  fc.assert(
    fc.property(messages, (list) => {
      const features = new TickFeatures();
      for (const [price, size, buy] of list) features.update(trade(price, buy ? "buy" : "sell", size));
      expect(features.vector().every(Number.isFinite)).toBe(true);
    }),
  );
});
