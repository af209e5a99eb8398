import { describe, expect, it } from "vitest";
import { TickFeatures } from "#runtime/market/ticks.ts";
import { admit, MAX_AGE_MS, MAX_FUTURE_MS, type RecordToAdmit } from "./admission.ts";

const NOW = Date.UTC(2026, 10, 28, 9, 30);
const common = { instrument: "BTCUSDT", assetClass: "crypto", eventTime: NOW, sequence: 7 };
const trade = { type: "trade", ...common, price: 64_000, size: 0.1, side: "buy" };
const bookTop = { type: "bookTop", ...common, bidPrice: 1, bidSize: 1, askPrice: 2, askSize: 1 };
const candle = {
  ...{ type: "candle", ...common, openTime: NOW - 60_000, closeTime: NOW },
  ...{ open: 1, high: 2, low: 1, close: 2, volume: 3, trades: 4 },
};

const record = (text: string | null, key: string | undefined = "BTCUSDT"): RecordToAdmit => ({
  key,
  value: text === null ? null : Buffer.from(text),
  headers: {},
});
const of = (message: object, key?: string) => record(JSON.stringify(message), key);
/** A trade as text, with one field written as it stands. */
const withText = (field: keyof typeof trade, text: string) =>
  record(JSON.stringify({ ...trade, [field]: "@" }).replace('"@"', text));
const code = (entry: RecordToAdmit, rules = {}) => {
  const verdict = admit(entry, rules, NOW);
  return verdict.admitted ? "admitted" : verdict.code;
};

describe("admission", () => {
  it.each<[string, RecordToAdmit, string]>([
    ["of now", of(trade), "admitted"],
    ["without a key", { ...of(trade), key: undefined }, "admitted"],
    ["of a number that was there before", of({ ...trade, sequence: 0 }), "admitted"],
    ["as far ahead as clocks differ", of({ ...trade, eventTime: NOW + MAX_FUTURE_MS }), "admitted"],
    ["a little further ahead", of({ ...trade, eventTime: NOW + MAX_FUTURE_MS + 1 }), "FUTURE_TIMESTAMP"],
    ["in microseconds", of({ ...trade, eventTime: NOW * 1e3 }), "FUTURE_TIMESTAMP"],
    ["in nanoseconds", withText("eventTime", `${NOW}000000`), "INVALID"],
    ["at the largest whole number", of({ ...trade, eventTime: Number.MAX_SAFE_INTEGER }), "FUTURE_TIMESTAMP"],
    ["in seconds", of({ ...trade, eventTime: NOW / 1e3 }), "PAST_TIMESTAMP"],
    ["at the beginning of time", of({ ...trade, eventTime: 0 }), "PAST_TIMESTAMP"],
    ["as old as topics keep", of({ ...trade, eventTime: NOW - MAX_AGE_MS }), "admitted"],
    ["older than that", of({ ...trade, eventTime: NOW - MAX_AGE_MS - 1 }), "PAST_TIMESTAMP"],
    ["at a negative time", of({ ...trade, eventTime: -1 }), "INVALID"],
    ["at a fraction of a millisecond", of({ ...trade, eventTime: NOW + 0.5 }), "INVALID"],
    ["at a time as text", of({ ...trade, eventTime: String(NOW) }), "INVALID"],
    ["at no time", of({ ...trade, eventTime: undefined }), "INVALID"],
    ["at null", of({ ...trade, eventTime: null }), "INVALID"],
    ["at 1e999", withText("eventTime", "1e999"), "INVALID"],
    ["at -1e999", withText("eventTime", "-1e999"), "INVALID"],
    ["at NaN", withText("eventTime", "NaN"), "NOT_JSON"],
    ["at Infinity", withText("eventTime", "Infinity"), "NOT_JSON"],
    ["at a price of 1e999", withText("price", "1e999"), "INVALID"],
    ["at a price of NaN", withText("price", "NaN"), "NOT_JSON"],
    ["at a price of nothing", of({ ...trade, price: 0 }), "INVALID"],
    ["at a price below nothing", of({ ...trade, price: -64_000 }), "INVALID"],
    ["at a price as text", of({ ...trade, price: "64000" }), "INVALID"],
    ["at a price beyond all markets", of({ ...trade, price: 1e300 }), "OUT_OF_RANGE"],
    ["at a price that is next to nothing", withText("price", "5e-324"), "OUT_OF_RANGE"],
    ["of a size beyond all markets", of({ ...trade, size: 1e300 }), "OUT_OF_RANGE"],
    ["of no size", of({ ...trade, size: 0 }), "admitted"],
    ["of a number as large as numbers get", of({ ...trade, sequence: Number.MAX_SAFE_INTEGER }), "admitted"],
    ["of a number beyond that", withText("sequence", "9007199254740993"), "INVALID"],
    ["under the key of another instrument", of(trade, "ETHUSDT"), "WRONG_KEY"],
    ["under an empty key", of(trade, ""), "WRONG_KEY"],
    ["under a key in small letters", of(trade, "btcusdt"), "WRONG_KEY"],
    ["under a key with a space", of(trade, "BTCUSDT "), "WRONG_KEY"],
    ["of an instrument in small letters", of({ ...trade, instrument: "btcusdt" }), "INVALID"],
    ["without a value", record(null), "NULL_VALUE"],
    ["that is no JSON", record("hello"), "NOT_JSON"],
    ["of another schema", { ...of(trade), headers: { "baton-schema": "market-data/2" } }, "WRONG_SCHEMA"],
    ["of the book", of(bookTop), "admitted"],
    ["of the book with a price beyond all markets", of({ ...bookTop, askPrice: 1e308 }), "OUT_OF_RANGE"],
    ["of the book with a size beyond all markets", of({ ...bookTop, bidSize: 1e308 }), "OUT_OF_RANGE"],
    ["of a candle", of(candle), "admitted"],
    ["of a candle that is still open", of({ ...candle, closeTime: NOW + 30 * 86_400_000 }), "admitted"],
    ["of a candle that ends in microseconds", of({ ...candle, closeTime: NOW * 1e3 }), "FUTURE_TIMESTAMP"],
    ["of a candle that begins in microseconds", of({ ...candle, openTime: NOW * 1e3 }), "OUT_OF_RANGE"],
    ["of a candle that begins in seconds", of({ ...candle, openTime: NOW / 1e3 }), "PAST_TIMESTAMP"],
    [
      "of a candle that begins tomorrow",
      of({ ...candle, openTime: NOW + 6e4, closeTime: NOW + 9e4 }),
      "FUTURE_TIMESTAMP",
    ],
    ["of a candle with a volume beyond all markets", of({ ...candle, volume: 1e300 }), "OUT_OF_RANGE"],
  ])("of a record %s", (_, entry, expected) => {
    expect(code(entry)).toBe(expected);
  });

  it("knows the instruments that it was given", () => {
    const rules = { instruments: new Set(["ETHUSDT"]) };
    expect(code(of(trade), rules)).toBe("UNKNOWN_INSTRUMENT");
    expect(code(of({ ...trade, instrument: "ETHUSDT" }, "ETHUSDT"), rules)).toBe("admitted");
  });

  it("takes history where it is told to, and the future nowhere", () => {
    const rules = { maxAgeMs: Number.POSITIVE_INFINITY };
    expect(code(of({ ...trade, eventTime: Date.UTC(2017, 1, 1) }), rules)).toBe("admitted");
    expect(code(of({ ...trade, eventTime: NOW * 1e3 }), rules)).toBe("FUTURE_TIMESTAMP");
    expect(code(of({ ...trade, eventTime: NOW + 60_000 }), { maxFutureMs: 60_000 })).toBe("admitted");
  });

  it("says what is wrong with what", () => {
    expect(admit(of({ ...trade, eventTime: NOW + 60_000 }), {}, NOW)).toEqual({
      admitted: false,
      code: "FUTURE_TIMESTAMP",
      error: "the event lies in the future: eventTime is 60000 ms ahead",
    });
    expect(admit(of({ ...trade, size: 1e16 }), {}, NOW)).toMatchObject({
      error: /size is 10000000000000000$/,
    });
  });

  it("leaves features finite, as 32-bit numbers too, whatever it admits", () => {
    const features = new TickFeatures();
    const extremes = [1e-15, 1, 1e15];
    for (const one of extremes) {
      for (const other of extremes) {
        for (const side of ["buy", "sell"]) {
          for (const entry of [
            { ...trade, side, price: one, size: other },
            { ...bookTop, bidPrice: one, askPrice: other, bidSize: other, askSize: one },
          ]) {
            const verdict = admit(of(entry), {}, NOW);
            if (!verdict.admitted) expect.unreachable(verdict.error);
            features.update(verdict.message);
            expect(Float32Array.from(features.vector()).every(Number.isFinite)).toBe(true);
          }
        }
      }
    }
  });
});
