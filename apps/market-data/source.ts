import { describe, MarketData } from "#runtime/contracts/index.ts";
import type { Rejection } from "./errors.ts";
import { isPlausible } from "./time-unit.ts";

/** A stream of messages at the pace at which they are to be sent; ends with its data or with the signal. */
export type Source = (signal: AbortSignal) => AsyncIterable<MarketData>;

export type Admitted = { readonly message: MarketData } | { readonly rejection: Rejection };

/** Instruments whose newest record is remembered; beyond, the one that was heard of first is forgotten. */
const MAX_INSTRUMENTS = 100_000;

/** An event time may be ahead of our clock by this, as the signal model has it. */
const MAX_FUTURE_MS = 60_000;

interface Newest {
  readonly eventTime: number;
  readonly sequence: number;
}

/**
 * The rule for every record that comes from outside, recorded or live: it is a message of the contract, its time is
 * plausible, and it does not go back among those of its instrument. The sequence is the order: a late time alone is
 * none of its own making, and one that is far ahead must not stand against all that follow.
 */
export class Admission {
  readonly #newest = new Map<string, Newest>();
  readonly #now: () => number;

  /** `now` is the clock that nothing may be ahead of, milliseconds since 1970; without one, what is recorded counts. */
  constructor(now: () => number = () => Infinity) {
    this.#now = now;
  }

  admit(fields: unknown): Admitted {
    const parsed = MarketData.schema.safeParse(fields);
    if (!parsed.success) return { rejection: { code: "INVALID", detail: describe(parsed.error) } };
    const message = parsed.data;
    const { instrument, eventTime, sequence } = message;
    if (!isPlausible(eventTime))
      return { rejection: { code: "IMPLAUSIBLE_TIMESTAMP", detail: `eventTime: ${eventTime}` } };
    const aheadMs = eventTime - this.#now();
    if (aheadMs > MAX_FUTURE_MS)
      return { rejection: { code: "FUTURE_TIMESTAMP", detail: `eventTime: ${aheadMs} ms ahead` } };
    const newest = this.#newest.get(instrument);
    if (newest !== undefined && eventTime <= newest.eventTime && sequence <= newest.sequence)
      return { rejection: goesBack(instrument, { eventTime, sequence }, newest) };
    if (newest === undefined && this.#newest.size >= MAX_INSTRUMENTS)
      this.#newest.delete(this.#newest.keys().next().value ?? "");
    this.#newest.set(instrument, {
      eventTime: Math.max(eventTime, newest?.eventTime ?? 0),
      sequence: Math.max(sequence, newest?.sequence ?? 0),
    });
    return { message };
  }
}

function goesBack(instrument: string, { eventTime, sequence }: Newest, newest: Newest): Rejection {
  const same = eventTime === newest.eventTime && sequence === newest.sequence;
  if (same) return { code: "DUPLICATE", detail: `sequence: ${sequence} of ${instrument}` };
  const ms = newest.eventTime - eventTime;
  return {
    code: "OUT_OF_ORDER",
    detail: `sequence: ${sequence} of ${instrument} after ${newest.sequence}, and ${ms} ms back in time`,
  };
}
