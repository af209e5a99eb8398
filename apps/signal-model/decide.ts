import type { InRecord } from "#runtime/bus/port.ts";
import { DecodeError, decode, MarketData, SCHEMA_HEADER, type Signal } from "#runtime/contracts/index.ts";
import type { FeatureRead } from "#runtime/features/index.ts";
import { VOLATILITY_RATIO } from "#runtime/market/ticks.ts";
import type { Forecasts } from "#runtime/model/index.ts";

// What the signal model makes of a batch, apart from all I/O.

/** Why a record gets a dead letter instead of a signal, beside the codes of DecodeError. */
export const REJECT_CODES = {
  UNKNOWN_INSTRUMENT: "the instrument is not one of this deployment's",
  FUTURE_TIMESTAMP: "the event lies in the future",
  WRONG_KEY: "the record's key is not its instrument",
} as const;

/** An event time may be ahead of our clock by this. */
export const MAX_FUTURE_MS = 60_000;

export interface Accepted {
  readonly record: InRecord;
  readonly message: MarketData;
}

export interface Rejected {
  readonly record: InRecord;
  readonly code: string;
  readonly error: string;
}

/** Parses one record; `instruments` undefined means that every instrument is known. */
export function admit(
  record: InRecord,
  instruments: ReadonlySet<string> | undefined,
  now: number,
): Accepted | Rejected {
  let message: MarketData;
  try {
    message = decode(MarketData, record.value, record.headers[SCHEMA_HEADER]);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    return { record, code: error.code, error: error.message };
  }
  if (instruments !== undefined && !instruments.has(message.instrument)) {
    return reject(record, "UNKNOWN_INSTRUMENT", message.instrument);
  }
  if (record.key !== undefined && record.key !== message.instrument) {
    return reject(record, "WRONG_KEY", `${record.key.slice(0, 80)} for ${message.instrument}`);
  }
  if (message.eventTime > now + MAX_FUTURE_MS) {
    return reject(record, "FUTURE_TIMESTAMP", `${message.eventTime - now} ms ahead`);
  }
  return { record, message };
}

function reject(record: InRecord, code: keyof typeof REJECT_CODES, detail: string): Rejected {
  return { record, code, error: `${REJECT_CODES[code]}: ${detail}` };
}

/** What identifies who decides. */
export interface Identity {
  readonly deployment: string;
  readonly revision: string;
  readonly model: Signal["model"];
  readonly horizonMs: number;
}

/** A signal that says: no view. Used where there are no usable features. */
const NO_VIEW = { mu: 0, sigma: 1, confidence: 0 };

/** The signal for one message. `row` is its row in the forecasts, undefined where it had no usable features. */
export function toSignal(
  { record, message }: Accepted,
  identity: Identity,
  features: FeatureRead,
  forecasts: Forecasts,
  row: number | undefined,
  now: number,
): Signal {
  const forecast =
    row === undefined
      ? NO_VIEW
      : {
          mu: forecasts.mu[row] ?? Number.NaN,
          sigma: forecasts.sigma[row] ?? Number.NaN,
          confidence: forecasts.confidence[row] ?? Number.NaN,
        };
  return {
    deployment: identity.deployment,
    revision: identity.revision,
    model: identity.model,
    instrument: message.instrument,
    input: { topic: record.topic, partition: record.partition, offset: String(record.offset) },
    eventTime: message.eventTime,
    producedAt: now,
    ...forecast,
    horizonMs: identity.horizonMs,
    regime: regimeOf(usable(features)?.[VOLATILITY_RATIO]),
    featuresAgeMs: features.status === "missing" ? 0 : message.eventTime - features.eventTime,
  };
}

/** Values that a model may be given; undefined where there are none. */
export function usable(read: FeatureRead): Float32Array | undefined {
  return read.status === "fresh" || read.status === "stale" ? read.values : undefined;
}

/** Bounds of the regimes, as the contract states them. */
export function regimeOf(volatilityRatio: number | undefined): Signal["regime"] {
  if (volatilityRatio === undefined || !Number.isFinite(volatilityRatio)) return "normal";
  if (volatilityRatio < 0.7) return "calm";
  if (volatilityRatio < 1.5) return "normal";
  return volatilityRatio < 3 ? "volatile" : "stressed";
}
