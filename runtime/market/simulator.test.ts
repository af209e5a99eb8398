import { describe, expect, it } from "vitest";
import { encode, MarketData } from "#runtime/contracts/index.ts";
import { INSTRUMENTS, type Tier } from "./instruments.ts";
import { MarketSimulator } from "./simulator.ts";

const COUNT = 120_000;
const simulator = new MarketSimulator(7, INSTRUMENTS);
const messages = Array.from({ length: COUNT }, (_, i) => simulator.next(1_700_000_000_000 + i));

const mids = messages.flatMap((message) =>
  message.type === "bookTop" && message.instrument === "BTCUSDT"
    ? [(message.bidPrice + message.askPrice) / 2]
    : [],
);
const returns = mids.slice(1).map((mid, i) => Math.log(mid / (mids[i] ?? mid)));

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function autocorrelation(values: readonly number[], lag: number): number {
  const m = mean(values);
  const centred = values.map((value) => value - m);
  const covariance = mean(centred.slice(lag).map((value, i) => value * (centred[i] ?? 0)));
  return covariance / mean(centred.map((value) => value * value));
}

describe("simulated market", () => {
  it("is the same for the same seed and another for another", () => {
    const first = (seed: number) => {
      const run = new MarketSimulator(seed, INSTRUMENTS);
      return JSON.stringify(Array.from({ length: 100 }, (_, i) => run.next(i)));
    };
    expect(first(1)).toBe(first(1));
    expect(first(1)).not.toBe(first(2));
  });

  it("writes messages that its contract accepts", () => {
    for (const message of messages.slice(0, 2_000)) encode(MarketData, message);
  });

  it("has fat tails", () => {
    const m = mean(returns);
    const variance = mean(returns.map((value) => (value - m) ** 2));
    const kurtosis = mean(returns.map((value) => (value - m) ** 4)) / variance ** 2;
    expect(kurtosis).toBeGreaterThan(4);
  });

  it("has clustered volatility", () => {
    const sizes = returns.map(Math.abs);
    for (const lag of [1, 5, 10]) expect(autocorrelation(sizes, lag)).toBeGreaterThan(0.03);
  });

  it("has returns that are hard, though not impossible, to foresee", () => {
    expect(Math.abs(autocorrelation(returns, 1))).toBeLessThan(0.2);
  });

  it("has autocorrelated signs of trades", () => {
    const sides = messages.flatMap((message) =>
      message.type === "trade" && message.instrument === "BTCUSDT" ? [message.side === "buy" ? 1 : -1] : [],
    );
    expect(autocorrelation(sides, 1)).toBeGreaterThan(0.3);
  });

  it("has wider spreads and fewer messages for less traded instruments", () => {
    const tierOf = new Map(INSTRUMENTS.map((instrument) => [instrument.symbol, instrument.tier]));
    const spreads: Record<Tier, number[]> = { high: [], medium: [], low: [] };
    const counts: Record<Tier, number> = { high: 0, medium: 0, low: 0 };
    for (const message of messages) {
      const tier = tierOf.get(message.instrument) ?? "low";
      counts[tier] += 1;
      if (message.type === "bookTop")
        spreads[tier].push((message.askPrice - message.bidPrice) / message.bidPrice);
    }
    expect(mean(spreads.high)).toBeLessThan(mean(spreads.medium));
    expect(mean(spreads.medium)).toBeLessThan(mean(spreads.low));
    expect(counts.high / COUNT).toBeGreaterThan(0.5);
    expect(counts.low / COUNT).toBeLessThan(0.15);
  });

  it("numbers each instrument's messages without a gap", () => {
    const next = new Map<string, number>();
    for (const message of messages) {
      expect(message.sequence).toBe(next.get(message.instrument) ?? 0);
      next.set(message.instrument, message.sequence + 1);
    }
    expect(next.size).toBe(20);
  });
});
