import { randomUUID } from "node:crypto";
import { afterAll, describe, expect, inject, it } from "vitest";
import { memoryMarks, redisMarks } from "#runtime/handover/marks.ts";
import { connectRedis } from "#runtime/redis/index.ts";
import { waitFor } from "#tests/support/wait.ts";

const redis = connectRedis(`redis://127.0.0.1:${inject("cluster").ports.redis}`);
afterAll(() => redis.disconnect());

describe.each([
  ["memory", memoryMarks()],
  ["Redis", redisMarks(redis)],
] as const)("marks in %s", (_, marks) => {
  it("rise and never fall, also beyond what a number holds", async () => {
    await waitFor("Redis", () => redis.status === "ready");
    const key = randomUUID();
    expect(await marks.get(key)).toBeUndefined();
    for (const [raised, expected] of [
      [9n, 9n],
      [10n, 10n],
      [9n, 10n],
      [9_007_199_254_740_993n, 9_007_199_254_740_993n],
      [9_007_199_254_740_992n, 9_007_199_254_740_993n],
    ] as const) {
      await marks.raise(key, raised);
      expect(await marks.get(key)).toBe(expected);
    }
    expect(await marks.get(randomUUID())).toBeUndefined();
  });
});
