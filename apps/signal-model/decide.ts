import type { InRecord } from "#runtime/bus/port.ts";
import type { MarketData, Signal } from "#runtime/contracts/index.ts";
import type { FeatureRead } from "#runtime/features/index.ts";
import { VOLATILITY_RATIO } from "#runtime/market/ticks.ts";
import type { Forecasts } from "#runtime/model/index.ts";

// What the signal model makes of a batch, apart from all I/O.

export interface Accepted {
  readonly record: InRecord;
  readonly message: MarketData;
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
