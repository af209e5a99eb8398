import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { standStill } from "#tests/support/virtual-time.ts";
import { MAX_TIMER_MS, sleepFor, sleepUntil, timerMs } from "./sleep.ts";

const DAY_MS = 86_400_000;
let end: () => void;
beforeEach(() => {
  end = standStill("2026-01-01T00:00:00Z");
});
afterEach(() => end());

it.each([1, 20, 26, 100])("waits for %i days and not a millisecond less", async (days) => {
  let over = false;
  const wait = sleepUntil(performance.now() + days * DAY_MS).then(() => {
    over = true;
  });
  await vi.advanceTimersByTimeAsync(days * DAY_MS - 1);
  expect(over).toBe(false);
  await vi.advanceTimersByTimeAsync(1);
  await wait;
});

it("goes by the clock that it is given", async () => {
  const wait = sleepUntil(Date.parse("2026-02-01T00:00:00Z"), { now: Date.now });
  await vi.advanceTimersByTimeAsync(31 * DAY_MS);
  await wait;
});

it("ends with its signal, also in the middle of a long wait, and leaves no timer", async () => {
  const stop = new AbortController();
  const wait = sleepFor(100 * DAY_MS, stop.signal);
  await vi.advanceTimersByTimeAsync(50 * DAY_MS);
  stop.abort();
  await wait;
  expect(vi.getTimerCount()).toBe(0);
  await sleepFor(100 * DAY_MS, stop.signal);
});

it("does not wait for what is past, and refuses what is no time", async () => {
  await sleepFor(-1);
  await expect(sleepUntil(Number.NaN)).rejects.toThrow(RangeError);
});

it("bounds time-outs by what a timer can be set to", () => {
  expect([timerMs(-1), timerMs(5), timerMs(1e12)]).toEqual([0, 5, MAX_TIMER_MS]);
});
