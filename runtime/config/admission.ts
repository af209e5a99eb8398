import { type AdmissionRules, MAX_AGE_MS, MAX_FUTURE_MS } from "#runtime/contracts/admission.ts";
import { kinds } from "./index.ts";

const HOUR_MS = 3_600_000;

/** Variables of every service that reads market data. */
export const admissionEnv = {
  EVENT_MAX_FUTURE_MS: kinds
    .integer("milliseconds that an event may be ahead of this clock", 0, 24 * HOUR_MS)
    .default(MAX_FUTURE_MS),
  EVENT_MAX_AGE_MS: kinds
    .integer(
      "milliseconds that an event may be old; 0 to take history of any age",
      0,
      Number.MAX_SAFE_INTEGER,
    )
    .default(MAX_AGE_MS),
} as const;

/** The bounds that were configured. */
export function admissionOf(config: {
  readonly EVENT_MAX_FUTURE_MS: number;
  readonly EVENT_MAX_AGE_MS: number;
}): Required<Pick<AdmissionRules, "maxFutureMs" | "maxAgeMs">> {
  const { EVENT_MAX_FUTURE_MS: maxFutureMs, EVENT_MAX_AGE_MS: age } = config;
  return { maxFutureMs, maxAgeMs: age === 0 ? Number.POSITIVE_INFINITY : age };
}
