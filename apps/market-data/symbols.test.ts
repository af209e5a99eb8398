import { describe, expect, it } from "vitest";
import { parseEnv } from "#runtime/config/index.ts";
import { MarketData } from "#runtime/contracts/index.ts";
import { ENV } from "./config.ts";
import { instrumentOf, instrumentsOf } from "./symbols.ts";

describe("instrument names", () => {
  const names: [string, string][] = [
    ["BTC/USDT", "BTCUSDT"],
    ["BTC/USDT:USDT", "BTCUSDT-PERP"],
    ["BTC/USD:BTC", "BTCUSD_BTC-PERP"],
    ["BTC/USD:USD", "BTCUSD-PERP"],
    ["BTC/USD:USDC", "BTCUSD_USDC-PERP"],
    ["BTC/USDT:USDT-261225", "BTCUSDT-261225"],
    ["BTC/USDT:USDT-270326", "BTCUSDT-270326"],
    ["BTC/USD:BTC-261225", "BTCUSD_BTC-261225"],
    ["BTC/USDT:USDT-261225-100000-C", "BTCUSDT-261225-100000-C"],
    ["BTC/USDT:USDT-261225-100000-P", "BTCUSDT-261225-100000-P"],
    ["XRP/USDC:USDC-261225-0.5-C", "XRPUSDC-261225-0.5-C"],
    ["1000PEPE/USDT:USDT", "1000PEPEUSDT-PERP"],
    ["kPEPE/USDC:USDC", "KPEPEUSDC-PERP"],
  ];

  it("keep spot, swaps, futures and options apart", () => {
    expect(names.map(([symbol]) => [symbol, instrumentOf(symbol)])).toEqual(names);
    expect(instrumentsOf(names.map(([symbol]) => symbol)).size).toBe(names.length);
  });

  it.each(names)("of %s are of the contract", (_, instrument) => {
    const bookTop = { bidPrice: 1, bidSize: 1, askPrice: 2, askSize: 1 };
    const common = { instrument, assetClass: "crypto", eventTime: 1, sequence: 0 };
    expect(MarketData.schema.safeParse({ type: "bookTop", ...common, ...bookTop }).success).toBe(true);
  });

  it.each([
    "BTCUSDT",
    "",
    "BTC/",
    "/USDT",
    "BTC/USDT:",
    "BTC/USDT:USDT-26",
    "BTC/USDT:USDT-261225-X-C",
    "币安人生/USDT",
  ])("are not made of %s", (symbol) => {
    expect(() => instrumentOf(symbol)).toThrow(`the symbol ${symbol} `);
  });

  it("are not made longer than the contract allows", () => {
    expect(() => instrumentOf(`${"A".repeat(28)}/USDT:USDT`)).toThrow(/at most 32/);
  });
});

describe("LIVE_SYMBOLS", () => {
  const refusal = (symbols: string) => {
    try {
      parseEnv({ LIVE_SYMBOLS: ENV.LIVE_SYMBOLS }, { LIVE_SYMBOLS: symbols });
    } catch (error) {
      return (error as Error).message;
    }
    return "none";
  };

  it("is refused at the start where two symbols have one instrument name, naming both", () => {
    expect(refusal("BTC/USDT,ETH/USDT,BTC/USD-T")).toMatch(
      /LIVE_SYMBOLS: .*BTC\/USDT and BTC\/USD-T are both BTCUSDT/,
    );
    expect(refusal("BTC/USDT,BTC/USDT")).toMatch(/BTC\/USDT and BTC\/USDT are both BTCUSDT/);
  });

  it("is refused for what is no symbol, and taken for what is", () => {
    expect(refusal("BTCUSDT")).toMatch(/LIVE_SYMBOLS: the symbol BTCUSDT is not written as ccxt writes/);
    expect(refusal("BTC/USDT,BTC/USDT:USDT,BTC/USDT:USDT-261225")).toBe("none");
  });
});
