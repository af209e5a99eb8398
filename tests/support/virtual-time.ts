import { syncBuiltinESMExports } from "node:module";
import timers from "node:timers/promises";
import { vi } from "vitest";

// Time that passes when a test says so, for code that sleeps: vitest's clock leaves out node:timers/promises.

const real = timers.setTimeout;

/** From now on time stands still, also for those who sleep. Resolves with what ends that. */
export function standStill(at: string): () => void {
  vi.useFakeTimers({ now: Date.parse(at) });
  const sleep: typeof real = (ms, value, { signal } = {}) =>
    new Promise((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        reject(new DOMException("The operation was aborted", "AbortError"));
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", end);
        resolve(value as never);
      }, ms);
      if (signal?.aborted === true) end();
      else signal?.addEventListener("abort", end, { once: true });
    });
  timers.setTimeout = sleep;
  syncBuiltinESMExports();
  return () => {
    timers.setTimeout = real;
    syncBuiltinESMExports();
    vi.useRealTimers();
  };
}

/** Lets time pass, a bit at a time: what follows from one thing may need turns of the loop of its own. */
export async function pass(ms: number, stepMs = 20): Promise<void> {
  for (let left = ms; left > 0; left -= stepMs) await vi.advanceTimersByTimeAsync(Math.min(stepMs, left));
}
