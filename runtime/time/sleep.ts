import { setTimeout as sleep } from "node:timers/promises";

/** Node's longest timer in milliseconds, 24.8 days. A longer one does not wait at all: it fires after 1 ms. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

export interface SleepOptions {
  /** Ends the wait early; the promise resolves then too, so that the caller looks at the signal. */
  readonly signal?: AbortSignal | undefined;
  /** The clock that `due` is on, milliseconds. Default: the monotonic clock of the process, `performance.now()`. */
  readonly now?: () => number;
}

/** Resolves at `due`, however far ahead that is, or when the signal is aborted. Throws RangeError for NaN. */
export async function sleepUntil(
  due: number,
  { signal, now = () => performance.now() }: SleepOptions = {},
): Promise<void> {
  if (Number.isNaN(due)) throw new RangeError("cannot wait until NaN");
  for (let left = due - now(); left > 0 && signal?.aborted !== true; left = due - now()) {
    await sleep(timerMs(left), undefined, signal === undefined ? {} : { signal }).catch(() => {});
  }
}

/** Resolves after so many milliseconds, however many, or when the signal is aborted. Throws RangeError for NaN. */
export function sleepFor(ms: number, signal?: AbortSignal): Promise<void> {
  return sleepUntil(performance.now() + ms, { signal });
}

/** What a timer of Node may be set to, for time-outs that come from a specification: at most {@link MAX_TIMER_MS}. */
export function timerMs(ms: number): number {
  return Math.min(Math.max(0, ms), MAX_TIMER_MS);
}
