import { MessageChannel } from "node:worker_threads";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { MarketData } from "#runtime/contracts/index.ts";
import { standStill } from "#tests/support/virtual-time.ts";
import type { Rejection } from "./errors.ts";
import { type FeedState, type LiveOptions, live } from "./live.ts";

const NOW = "2026-01-01T00:00:00Z";
const AT = Date.parse(NOW);
let end: () => void;
beforeEach(() => {
  end = standStill(NOW);
});
afterEach(() => end());

const print = (change: object = {}) => ({
  timestamp: AT,
  price: 64_000,
  amount: 0.5,
  side: "sell",
  ...change,
});
/** An error as ccxt names its own. */
const error = (name: string, message = "no more") => Object.assign(new Error(message), { name });
const lost = () => error("NetworkError", "Connection closed by remote server, closing code 1006");

type Answer = unknown;

/** What stands for ccxt: answers of each symbol in turn, then it waits until it is closed, as the real one does. */
function stand(scripts: Readonly<Record<string, readonly Answer[]>>, markets?: object) {
  const calls: Record<string, number[]> = {};
  const at = new Map<string, number>();
  let closed = 0;
  class Binance {
    readonly markets = markets;
    readonly #rejects: ((error: Error) => void)[] = [];
    async watchTrades(symbol: string): Promise<unknown> {
      calls[symbol] = [...(calls[symbol] ?? []), Date.now() - AT];
      const i = at.get(symbol) ?? 0;
      const script = scripts[symbol] ?? [];
      if (i >= script.length) return new Promise((_, reject) => this.#rejects.push(reject));
      at.set(symbol, i + 1);
      if (script[i] instanceof Error) throw script[i];
      return script[i];
    }
    async close(): Promise<void> {
      closed += 1;
      for (const reject of this.#rejects)
        reject(error("ExchangeClosedByUser", "exchange.close() has been called"));
    }
  }
  class NoTrades extends Binance {
    readonly has = { watchTrades: false };
  }
  const module = { default: { pro: { binance: Binance, notrades: NoTrades } } };
  return { calls, closed: () => closed, importCcxt: async () => module };
}

/** Follows what stands for ccxt for so long; `messages` is complete when `done` resolves, as on an ordinary stop. */
async function follow(
  scripts: Readonly<Record<string, readonly Answer[]>>,
  {
    ms = 60_000,
    markets,
    ...options
  }: LiveOptions & { readonly ms?: number; readonly markets?: object } = {},
) {
  const ccxt = stand(scripts, markets);
  const stop = new AbortController();
  const messages: MarketData[] = [];
  const rejections: Rejection[] = [];
  const states: [string, FeedState][] = [];
  const source = live("binance", Object.keys(scripts), {
    importCcxt: ccxt.importCcxt,
    onRejected: (rejection) => rejections.push(rejection),
    onFeed: (instrument, state) => states.push([instrument, state]),
    random: () => 0.999,
    ...options,
  });
  let failure: unknown;
  const work = (async () => {
    for await (const message of source(stop.signal)) messages.push(message);
  })().catch((cause: unknown) => {
    failure = cause;
  });
  // Turns of the loop, in which ccxt's answers arrive, and time, in steps.
  for (let passed = 0; passed < ms; passed += 50) {
    await turn();
    await vi.advanceTimersByTimeAsync(50);
  }
  await turn();
  stop.abort();
  await work;
  return { ...ccxt, messages, rejections, states, failure };
}
const channel = new MessageChannel();
const turns: (() => void)[] = [];
channel.port1.on("message", () => turns.shift()?.());
channel.port1.unref();
const turn = () =>
  new Promise<void>((resolve) => {
    turns.push(resolve);
    channel.port2.postMessage(0);
  });

const codes = (rejections: readonly Rejection[]) => rejections.map(({ code }) => code);

describe("a live feed", () => {
  it("publishes trades, numbers them and ends with its signal", async () => {
    const { messages, failure, closed, states } = await follow(
      { "BTC/USDT": [[print()], [print(), print()]] },
      { ms: 500 },
    );
    expect(failure).toBeUndefined();
    expect(messages.map(({ sequence }) => sequence)).toEqual([0, 1, 2]);
    expect(messages[0]).toEqual({
      ...{ type: "trade", instrument: "BTCUSDT", assetClass: "crypto", eventTime: AT, sequence: 0 },
      ...{ price: 64_000, size: 0.5, side: "sell" },
    });
    expect(closed()).toBe(1);
    expect(states.map(([, { kind }]) => kind)).toEqual(["connecting", "connected"]);
  });

  it("has no side where the exchange has none", async () => {
    const prints = [undefined, null, ""].map((side) => print({ side }));
    const { messages } = await follow({ "BTC/USDT": [prints] }, { ms: 500 });
    expect(messages).toHaveLength(3);
    for (const message of messages) expect(message).not.toHaveProperty("side");
  });

  const bad: [string, unknown, string][] = [
    ["a price of 0", print({ price: 0 }), "INVALID"],
    ["a negative price", print({ price: -1 }), "INVALID"],
    ["a price of NaN", print({ price: Number.NaN }), "INVALID"],
    ["no price", print({ price: undefined }), "INVALID"],
    ["no amount", print({ amount: undefined }), "INVALID"],
    ["an infinite amount", print({ amount: Infinity }), "INVALID"],
    ["no time", print({ timestamp: undefined }), "INVALID"],
    ["a time in seconds", print({ timestamp: AT / 1000 }), "IMPLAUSIBLE_TIMESTAMP"],
    ["a time in microseconds", print({ timestamp: AT * 1000 }), "IMPLAUSIBLE_TIMESTAMP"],
    ["a time of tomorrow", print({ timestamp: AT + 86_400_000 }), "FUTURE_TIMESTAMP"],
    ["a side that is none", print({ side: "both" }), "INVALID"],
    ["nothing at all", undefined, "INVALID"],
    ["a word", "maintenance", "INVALID"],
  ];
  it.each(bad)("rejects one print with %s, and goes on", async (_, one, code) => {
    const { messages, rejections, failure } = await follow(
      { "BTC/USDT": [[print(), one, print()], [print()]] },
      { ms: 500 },
    );
    expect(failure).toBeUndefined();
    expect(messages.map(({ sequence }) => sequence)).toEqual([0, 1, 2]);
    expect(codes(rejections)).toEqual([code]);
    expect(rejections[0]?.detail).toMatch(/^BTC\/USDT: /);
  });

  it("gives the trades of one answer in the order of their times", async () => {
    const times = [3, 1, 2].map((ms) => print({ timestamp: AT + ms }));
    const { messages } = await follow({ "BTC/USDT": [times] }, { ms: 500 });
    expect(messages.map(({ eventTime }) => eventTime - AT)).toEqual([1, 2, 3]);
  });

  it("counts in the base asset, where ccxt counts contracts", async () => {
    const markets = {
      "BTC/USDT:USDT": { contractSize: 0.01, inverse: false },
      "BTC/USD:BTC": { contractSize: 100, inverse: true },
    };
    const { messages } = await follow(
      { "BTC/USDT:USDT": [[print({ amount: 5 })]], "BTC/USD:BTC": [[print({ amount: 5, price: 50_000 })]] },
      { ms: 500, markets },
    );
    const sizes = messages.map((one) => [one.instrument, one.type === "trade" ? one.size : 0]);
    expect(Object.fromEntries(sizes)).toEqual({ "BTCUSDT-PERP": 0.05, "BTCUSD_BTC-PERP": 0.01 });
  });

  it("refuses two symbols of one instrument", async () => {
    const { failure } = await follow({ "BTC/USDT": [[print()]], "BTC/USD-T": [[print()]] }, { ms: 50 });
    expect(failure).toMatchObject({
      code: "BAD_SYMBOL",
      message: expect.stringMatching(/BTC\/USDT and BTC\/USD-T/),
    });
  });
});

describe("a lost connection", () => {
  it("is opened again, after waits that double up to a limit, from the shortest after each success", async () => {
    const failures = Array.from({ length: 9 }, lost);
    const { calls, messages, failure } = await follow(
      { "BTC/USDT": [...failures, [print()], lost(), [print()]] },
      { ms: 180_000 },
    );
    expect(failure).toBeUndefined();
    const waits = (calls["BTC/USDT"] ?? []).slice(1).map((at, i) => at - (calls["BTC/USDT"]?.[i] ?? 0));
    const bounds = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000];
    for (const [i, bound] of [...bounds, 0, 250, 0].entries()) {
      expect(waits[i]).toBeGreaterThanOrEqual(bound * 0.99 - 1);
      expect(waits[i]).toBeLessThanOrEqual(bound + 100);
    }
    expect(messages.map(({ sequence }) => sequence)).toEqual([0, 1]);
  });

  it("spreads its waits", async () => {
    const { calls } = await follow(
      { "BTC/USDT": [lost(), lost(), lost(), [print()]] },
      { ms: 5_000, random: () => 0 },
    );
    expect(calls["BTC/USDT"]).toHaveLength(5);
  });

  it("is told of, with the error, until trades come again", async () => {
    const { states } = await follow({ "BTC/USDT": [[print()], lost(), lost(), [print()]] }, { ms: 5_000 });
    expect(
      states.map(([, state]) => (state.kind === "lost" ? `lost ${state.failures}` : state.kind)),
    ).toEqual([...["connecting", "connected", "lost 1", "lost 2", "connected"]]);
    expect(states[2]?.[1]).toMatchObject({ retryInMs: 249, error: expect.stringContaining("1006") });
  });

  it("of one symbol leaves the others", async () => {
    const dead = Array.from({ length: 50 }, () => error("ExchangeError", "internal error"));
    const ticks = Array.from({ length: 100 }, () => [print()]);
    const { messages, failure } = await follow({ "ETH/USDT": dead, "BTC/USDT": ticks }, { ms: 20_000 });
    expect(failure).toBeUndefined();
    expect(messages).toHaveLength(100);
  });

  it("does not publish a trade twice, and forgets ids in time", async () => {
    const ids = (from: number, count: number) =>
      Array.from({ length: count }, (_, i) => print({ id: String(from + i) }));
    const { messages, rejections } = await follow(
      { "BTC/USDT": [ids(0, 10), lost(), ids(5, 10), ids(15, 10_000), ids(0, 1)] },
      { ms: 2_000 },
    );
    expect(codes(rejections)).toEqual(Array.from({ length: 5 }, () => "DUPLICATE"));
    // The id 0 is more than 10,000 trades ago.
    expect(messages).toHaveLength(15 + 10_000 + 1);
    expect(messages.at(-1)?.sequence).toBe(15 + 10_000);
  });

  it("does not publish older trades without an id again", async () => {
    const trades = [1, 2, 3].map((ms) => print({ timestamp: AT + ms }));
    const { messages, rejections } = await follow(
      {
        "BTC/USDT": [
          trades,
          lost(),
          [...trades, print({ timestamp: AT + 4 })],
          [print({ timestamp: AT + 1 })],
        ],
      },
      { ms: 2_000 },
    );
    expect(messages.map(({ eventTime }) => eventTime - AT)).toEqual([1, 2, 3, 3, 4, 1]);
    expect(codes(rejections)).toEqual(["DUPLICATE", "DUPLICATE"]);
  });

  it("is left alone for longer where the exchange limits our rate, whichever class of ccxt says so", async () => {
    class DDoSProtection extends Error {}
    class TooManyOfThisExchange extends DDoSProtection {
      override readonly name = "TooManyOfThisExchange";
    }
    const { calls } = await follow({ "BTC/USDT": [new TooManyOfThisExchange(), [print()]] }, { ms: 15_000 });
    expect(calls["BTC/USDT"]?.[1]).toBeGreaterThanOrEqual(10_000);
  });

  it("does not keep an ordinary stop, in the middle of a wait", async () => {
    const { failure, closed } = await follow(
      { "BTC/USDT": Array.from({ length: 100 }, lost) },
      { ms: 60_000 },
    );
    expect(failure).toBeUndefined();
    expect(closed()).toBe(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  it.each([
    ["nothing", undefined],
    ["an object", {}],
  ])("is what an answer of %s is", async (_, answer) => {
    const { states, messages } = await follow({ "BTC/USDT": [answer, [print()]] }, { ms: 2_000 });
    expect(states.map(([, { kind }]) => kind)).toEqual(["connecting", "lost", "connected"]);
    expect(messages).toHaveLength(1);
  });
});

describe("what no waiting mends", () => {
  const permanent: [string, string, RegExp][] = [
    [
      "BadSymbol",
      "BAD_SYMBOL",
      /^BTC\/USDT: binance does not know the symbol: change LIVE_SYMBOLS \(it says: no more\)$/,
    ],
    ["AuthenticationError", "ACCESS_DENIED", /asks for an account/],
    ["PermissionDenied", "ACCESS_DENIED", /does not let us in/],
    ["NotSupported", "UNKNOWN_EXCHANGE", /change LIVE_EXCHANGE/],
  ];
  it.each(permanent)("ends the source: %s", async (name, code, message) => {
    const { failure, closed, calls } = await follow({ "BTC/USDT": [error(name)] }, { ms: 1_000 });
    expect(failure).toMatchObject({ code, message: expect.stringMatching(message) });
    expect(closed()).toBe(1);
    expect(calls["BTC/USDT"]).toHaveLength(1);
  });

  it("does not end the others once the symbol has worked: it may be a delisting", async () => {
    const { failure, states } = await follow(
      { "BTC/USDT": [[print()], error("BadSymbol"), error("BadSymbol")] },
      { ms: 5_000 },
    );
    expect(failure).toBeUndefined();
    expect(states.at(-1)?.[1]).toMatchObject({ kind: "lost", failures: 2 });
  });

  const open = (name: string, importCcxt: LiveOptions["importCcxt"]) => async () => {
    for await (const _ of live(
      name,
      ["BTC/USDT"],
      importCcxt === undefined ? {} : { importCcxt },
    )(new AbortController().signal));
  };
  it("is a package that is not there, or an exchange that is not in it", async () => {
    await expect(open("binance", undefined)()).rejects.toThrow(/npm install --no-save ccxt/);
    const { importCcxt } = stand({});
    await expect(open("nowhere", importCcxt)()).rejects.toThrow(
      /LIVE_EXCHANGE: ccxt has no exchange nowhere/,
    );
    await expect(open("constructor", importCcxt)()).rejects.toThrow(/LIVE_EXCHANGE/);
    await expect(open("notrades", importCcxt)()).rejects.toThrow(
      /LIVE_EXCHANGE: ccxt has no live trades of notrades/,
    );
  });
});
