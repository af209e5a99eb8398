import { DecodeError, decode, SCHEMA_HEADER } from "./contract.ts";
import { MarketData } from "./messages.ts";

// Whether a record of market data is taken. Everybody who reads such a topic asks here, so that no two of them take
// different records. It looks at one record and the clock, and remembers nothing.

/** Why a record is refused, beside the codes of DecodeError; also a metric label and dead-letter reason. */
export const ADMISSION_CODES = {
  UNKNOWN_INSTRUMENT: "the instrument is not one of this deployment's",
  FUTURE_TIMESTAMP: "the event lies in the future",
  PAST_TIMESTAMP: "the event is older than what is taken",
  WRONG_KEY: "the record's key is not its instrument",
  OUT_OF_RANGE: "a number is beyond what any market has",
} as const;

export type AdmissionCode = keyof typeof ADMISSION_CODES;

/** An event time may be ahead of our clock by this many milliseconds: clocks differ, units differ by far more. */
export const MAX_FUTURE_MS = 5_000;
/**
 * An event may be this many milliseconds old. Kafka keeps a record for its topic's retention (7 days) and as long again
 * until its segment is closed; seconds or days where milliseconds belong are further away by decades.
 */
export const MAX_AGE_MS = 30 * 24 * 3_600_000;
/** Start and end of a candle are no further than a year from its event. */
const MAX_CANDLE_MS = 366 * 24 * 3_600_000;
/** Prices and sizes beyond this are not of a market: sums and products of them would not stay finite. */
const MAX_NUMBER = 1e15;
/** And these round to nothing, so that dividing by them does not stay finite. */
const MIN_PRICE = 1e-15;

/** What admission looks at of a record. */
export interface RecordToAdmit {
  readonly key: string | undefined;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, string>>;
}

export interface AdmissionRules {
  /** The instruments that are known; all when absent. */
  readonly instruments?: ReadonlySet<string> | undefined;
  /** Default {@link MAX_FUTURE_MS}. */
  readonly maxFutureMs?: number;
  /** Default {@link MAX_AGE_MS}; Infinity to take history of any age. */
  readonly maxAgeMs?: number;
}

export type Admission =
  | { readonly admitted: true; readonly message: MarketData }
  | { readonly admitted: false; readonly code: string; readonly error: string };

/** The market data in a record, or why it is refused. `now` is in milliseconds since 1970. */
export function admit(record: RecordToAdmit, rules: AdmissionRules, now: number): Admission {
  let message: MarketData;
  try {
    message = decode(MarketData, record.value, record.headers[SCHEMA_HEADER]);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    return { admitted: false, code: error.code, error: error.message };
  }
  const refusal =
    refusedInstrument(record.key, message.instrument, rules) ??
    refusedTime(message, rules, now) ??
    refusedNumbers(message);
  if (refusal === undefined) return { admitted: true, message };
  const [code, detail] = refusal;
  return { admitted: false, code, error: `${ADMISSION_CODES[code]}: ${detail}` };
}

type Refusal = readonly [code: AdmissionCode, detail: string];

function refusedInstrument(
  key: string | undefined,
  instrument: string,
  { instruments }: AdmissionRules,
): Refusal | undefined {
  if (instruments !== undefined && !instruments.has(instrument)) return ["UNKNOWN_INSTRUMENT", instrument];
  // A record without a key is of its message's instrument; the key of another would break the order of that one.
  if (key !== undefined && key !== instrument) return ["WRONG_KEY", `${key.slice(0, 80)} for ${instrument}`];
  return undefined;
}

function refusedTime(message: MarketData, rules: AdmissionRules, now: number): Refusal | undefined {
  const { maxFutureMs = MAX_FUTURE_MS, maxAgeMs = MAX_AGE_MS } = rules;
  const ageMs = now - message.eventTime;
  if (ageMs < -maxFutureMs) return ["FUTURE_TIMESTAMP", `eventTime is ${-ageMs} ms ahead`];
  if (ageMs > maxAgeMs) return ["PAST_TIMESTAMP", `eventTime is ${ageMs} ms ago`];
  if (message.type !== "candle") return undefined;
  const { eventTime, openTime, closeTime } = message;
  if (openTime > closeTime) return ["OUT_OF_RANGE", "openTime is after closeTime"];
  if (openTime > eventTime + maxFutureMs) return ["FUTURE_TIMESTAMP", "openTime is after eventTime"];
  if (eventTime - openTime > MAX_CANDLE_MS) return ["PAST_TIMESTAMP", "openTime is far from eventTime"];
  if (closeTime - eventTime > MAX_CANDLE_MS) return ["FUTURE_TIMESTAMP", "closeTime is far from eventTime"];
  return undefined;
}

function refusedNumbers(message: MarketData): Refusal | undefined {
  for (const [field, value] of Object.entries(message)) {
    if (typeof value !== "number" || TIMES.has(field)) continue;
    if (value > MAX_NUMBER) return ["OUT_OF_RANGE", `${field} is ${value}`];
    if (PRICES.has(field) && value < MIN_PRICE) return ["OUT_OF_RANGE", `${field} is ${value}`];
  }
  return undefined;
}

/** Judged by the clock. */
const TIMES: ReadonlySet<string> = new Set(["eventTime", "openTime", "closeTime", "sequence"]);
const PRICES: ReadonlySet<string> = new Set([
  "price",
  "open",
  "high",
  "low",
  "close",
  "bidPrice",
  "askPrice",
]);
