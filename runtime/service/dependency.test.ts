import { pino } from "pino";
import { Registry } from "prom-client";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Dependency, tripsCounter } from "./dependency.ts";

class Away extends Error {}

const ending = new AbortController();
let registry: Registry;
let dependency: Dependency;
/** When it was asked, in milliseconds since the start. */
let asked: number[];
let away: boolean;

beforeEach(() => {
  vi.useFakeTimers({ now: 0 });
  registry = new Registry();
  asked = [];
  away = true;
  dependency = new Dependency({
    name: "features",
    isAway: (error) => error instanceof Away,
    trips: tripsCounter(registry),
    log: pino({ level: "silent" }),
    signal: ending.signal,
  });
});
afterEach(() => vi.useRealTimers());

const work = async () => {
  asked.push(Date.now());
  if (away) throw new Away("no answer");
  return "an answer";
};
const trips = async () =>
  /baton_circuit_breaker_trips_total\{dependency="features"\} (\d+)/.exec(await registry.metrics())?.[1];

it("an outage is one trip, and is asked about four times a second by all together", async () => {
  const answers = Promise.all([dependency.ask(work), dependency.ask(work)]);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await trips()).toBe("1");
  // Until it is taken for away, and then one test for both.
  expect(asked.filter((at) => at < 1_000).length).toBeLessThan(12);
  expect(asked.filter((at) => at >= 5_000 && at < 10_000).length).toBeLessThanOrEqual(20);
  away = false;
  await vi.advanceTimersByTimeAsync(300);
  expect(await answers).toEqual(["an answer", "an answer"]);
  away = true;
  void dependency.ask(work).catch(() => {});
  await vi.advanceTimersByTimeAsync(1_000);
  expect(await trips()).toBe("2");
});

it("a failure or two are no outage", async () => {
  const answer = dependency.ask(work);
  await vi.advanceTimersByTimeAsync(60);
  away = false;
  await vi.advanceTimersByTimeAsync(60);
  expect(await answer).toBe("an answer");
  expect(await trips()).toBe("0");
});

it("what does not pass by waiting is told at once, and waiting ends with the service", async () => {
  const broken = dependency.ask(async () => {
    throw new TypeError("broken");
  });
  await expect(broken).rejects.toThrow("broken");
  const waiting = dependency.ask(work);
  const told = expect(waiting).rejects.toMatchObject({ code: "REBALANCED" });
  await vi.advanceTimersByTimeAsync(1_000);
  ending.abort();
  await vi.advanceTimersByTimeAsync(100);
  await told;
});
