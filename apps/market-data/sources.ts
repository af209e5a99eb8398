import { INSTRUMENTS } from "#runtime/market/instruments.ts";
import { MarketSimulator } from "#runtime/market/simulator.ts";
import { sleepFor } from "#runtime/time/sleep.ts";
import type { Source } from "./source.ts";

export { live } from "./live.ts";
export { replayed } from "./replay.ts";
export type { Source } from "./source.ts";

const TICK_MS = 2;
/** When sending has fallen behind by this, the missed messages are not made up for. */
const MAX_BEHIND_MS = 1_000;

/** The simulated market at `rate` messages a second, each with the time of its making. */
export function simulated(seed: number, rate: number): Source {
  return async function* (signal) {
    const market = new MarketSimulator(seed, INSTRUMENTS);
    let due = performance.now();
    const stepMs = 1_000 / Math.max(rate, 1e-9);
    while (!signal.aborted) {
      const now = performance.now();
      if (now - due > MAX_BEHIND_MS) due = now;
      while (due <= now) {
        yield market.next(Date.now());
        due += stepMs;
      }
      await sleepFor(Math.max(TICK_MS, due - performance.now()), signal);
    }
  };
}
