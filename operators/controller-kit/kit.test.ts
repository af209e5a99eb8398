import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import { backoffMs } from "./backoff.ts";
import { mergeConditions } from "./conditions.ts";
import { kindOf, retryAfter } from "./errors.ts";
import { leaseStep } from "./lease.ts";
import { KeyedQueue } from "./queue.ts";

afterEach(() => {
  vi.useRealTimers();
});

describe("waiting", () => {
  it("is never longer than its bound, nor shorter than what was asked for", () => {
    fc.assert(
      fc.property(
        fc.nat(2000),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        fc.nat(60_000),
        (n, random, asked) => {
          const ms = backoffMs(n, { baseMs: 200, maxMs: 30_000 }, random, asked);
          expect(ms).toBeGreaterThanOrEqual(asked);
          expect(ms).toBeLessThanOrEqual(Math.max(asked, Math.min(30_000, 200 * 2 ** n)));
        },
      ),
    );
  });

  it("waits ten minutes at most for what a server asks, and for no number not at all", () => {
    for (const asked of [3_000_000_000, 8.64e15, Infinity])
      expect(backoffMs(0, { baseMs: 200, maxMs: 30_000 }, 0, asked)).toBe(600_000);
    for (const asked of [Number.NaN, -1])
      expect(backoffMs(0, { baseMs: 200, maxMs: 30_000 }, 0.5, asked)).toBe(100);
  });

  it("reads Retry-After as seconds and as a date", () => {
    const now = Date.parse("2026-01-01T00:00:00Z");
    expect(retryAfter("7", now)).toBe(7_000);
    expect(retryAfter("Thu, 01 Jan 2026 00:00:09 GMT", now)).toBe(9_000);
    expect(retryAfter("Wed, 31 Dec 2025 00:00:00 GMT", now)).toBe(0);
    expect(retryAfter("soon", now)).toBeUndefined();
    expect(retryAfter(undefined, now)).toBeUndefined();
  });
});

it.each([
  [401, undefined, "Unauthorized"],
  [403, undefined, "Forbidden"],
  [404, undefined, "NotFound"],
  [409, "AlreadyExists", "AlreadyExists"],
  [409, "Conflict", "Conflict"],
  [410, "Expired", "Gone"],
  [422, "Invalid", "Invalid"],
  [429, "TooManyRequests", "Transient"],
  [500, undefined, "Transient"],
  [503, undefined, "Transient"],
  [418, undefined, "Other"],
] as const)("an answer of %i %s is %s", (status, reason, kind) => {
  expect(kindOf(status, reason)).toBe(kind);
});

describe("a queue of keys", () => {
  it("never works on a key twice at once, and again when it was asked for meanwhile", async () => {
    const running = new Set<string>();
    const done: string[] = [];
    const queue = new KeyedQueue({
      workers: 3,
      work: async (key) => {
        expect(running.has(key)).toBe(false);
        expect(running.size).toBeLessThan(3);
        running.add(key);
        await sleep(5);
        running.delete(key);
        done.push(key);
        return undefined;
      },
    });
    for (let i = 0; i < 5; i++) for (const key of ["a", "b", "c", "d"]) queue.add(key);
    await sleep(2);
    queue.add("a");
    await vi.waitFor(() => expect(queue.size).toBe(0));
    expect(done.toSorted()).toEqual(["a", "a", "b", "b", "c", "c", "d"]);
    await queue.close();
  });

  it("has somebody free for what is urgent, and somebody for the others", async () => {
    let most = 0;
    const running = new Set<string>();
    const done: string[] = [];
    const queue = new KeyedQueue({
      workers: 4,
      others: 2,
      work: async (key) => {
        running.add(key);
        const others = [...running].filter((one) => one.startsWith("o")).length;
        most = Math.max(most, others);
        await sleep(2);
        running.delete(key);
        done.push(key);
        return undefined;
      },
    });
    for (let i = 0; i < 10; i++) queue.add(`o${i}`);
    // Asked for twice, and urgent the second time.
    queue.add("o9", true);
    for (let i = 0; i < 30; i++) queue.add(`u${i}`, true);
    await vi.waitFor(() => expect(queue.size).toBe(0));
    expect(done.toSorted()).toEqual([
      ...Array.from({ length: 10 }, (_, i) => `o${i}`),
      ...Array.from({ length: 30 }, (_, i) => `u${i}`).toSorted(),
    ]);
    // Two of them as what is not urgent, and one that was hurried.
    expect(most).toBeLessThanOrEqual(3);
    expect(done.indexOf("o9")).toBeLessThan(done.indexOf("o5"));
    expect(done.indexOf("u0")).toBeLessThan(done.indexOf("o5"));
    expect(done.indexOf("u29")).toBeGreaterThan(done.indexOf("o5"));
    await queue.close();
  });

  it("lets what is urgent end first, for a second", async () => {
    vi.useFakeTimers();
    const began = new Map<string, number>();
    const queue = new KeyedQueue({
      workers: 8,
      work: async (key) => {
        began.set(key, Date.now());
        // A timer of the test's clock.
        await new Promise((resolve) => setTimeout(resolve, 300));
        return undefined;
      },
    });
    const start = Date.now();
    queue.add("u", true);
    queue.add("o");
    await vi.advanceTimersByTimeAsync(350);
    expect(began.get("o")).toBe(start + 300);
    await vi.advanceTimersByTimeAsync(1_000);
    // Somebody is always in a hurry.
    const again = Date.now();
    for (let i = 0; i < 20; i++) setTimeout(() => queue.add(`u${i}`, true), i * 100);
    setTimeout(() => queue.add("patient"), 50);
    await vi.advanceTimersByTimeAsync(3_000);
    const waited = (began.get("patient") ?? Infinity) - again - 50;
    expect(waited).toBeGreaterThanOrEqual(1_000);
    expect(waited).toBeLessThan(1_200);
    await queue.close();
    vi.useRealTimers();
  });

  it("looks again after what the work says, or earlier where that is asked for, and not after it was closed", async () => {
    vi.useFakeTimers();
    let looks = 0;
    const queue = new KeyedQueue({
      workers: 1,
      work: async () => {
        looks += 1;
        return 60_000;
      },
    });
    queue.add("a");
    await vi.advanceTimersByTimeAsync(0);
    expect(looks).toBe(1);
    queue.addAfter("a", 1_000);
    queue.addAfter("a", 5_000);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(looks).toBe(2);
    await vi.advanceTimersByTimeAsync(59_999);
    expect(looks).toBe(2);
    await vi.advanceTimersByTimeAsync(1);
    expect(looks).toBe(3);
    await queue.close();
    queue.add("a");
    await vi.advanceTimersByTimeAsync(120_000);
    expect(looks).toBe(3);
  });
});

it.each([26 * 86_400_000, 1e300, Infinity, Number.NaN])(
  "a key that is to wait for %s ms is not looked at at once, nor again and again",
  async (ms) => {
    vi.useFakeTimers();
    let looks = 0;
    const queue = new KeyedQueue({
      workers: 1,
      work: async () => {
        looks += 1;
        return ms;
      },
    });
    queue.add("a");
    await vi.advanceTimersByTimeAsync(30_000);
    expect(looks).toBe(1);
    await vi.advanceTimersByTimeAsync(24 * 3_600_000);
    expect(looks).toBeGreaterThan(1);
    await queue.close();
  },
);

it("a lease is taken when it has not changed for its duration, by the clock of who looks", () => {
  const spec = {
    holderIdentity: "other",
    leaseDurationSeconds: 15,
    renewTime: "1970-01-01T00:00:00.000000Z",
  };
  expect(leaseStep(undefined, { record: "", at: 0 }, "me", 5)).toBe("take");
  expect(leaseStep({}, { record: "", at: 0 }, "me", 5)).toBe("take");
  expect(leaseStep(spec, { record: "", at: 1_000 }, "me", 15_999)).toBe("wait");
  expect(leaseStep(spec, { record: "", at: 1_000 }, "me", 16_000)).toBe("take");
  expect(leaseStep({ ...spec, holderIdentity: "me" }, { record: "", at: 0 }, "me", 99_000)).toBe("renew");
});

it("a condition keeps the time of its last change of status", () => {
  const then = [
    {
      type: "Ready",
      status: "True",
      reason: "a",
      message: "",
      lastTransitionTime: "2026-01-01T00:00:00.000Z",
    },
  ] as const;
  const at = Date.parse("2026-02-01T00:00:00Z");
  const same = mergeConditions(then, [{ type: "Ready", status: "True", reason: "b", message: "x" }], 3, at);
  expect(same).toEqual([{ ...then[0], reason: "b", message: "x", observedGeneration: 3 }]);
  const other = mergeConditions(then, [{ type: "Ready", status: "False", reason: "b", message: "" }], 3, at);
  expect(other[0]?.lastTransitionTime).toBe("2026-02-01T00:00:00.000Z");
});
