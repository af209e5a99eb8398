import { Redis } from "ioredis";
import { Registry } from "prom-client";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { FeatureStore, type FeatureView, type FeatureViewStore } from "#runtime/features/index.ts";
import { startRedis, type TestServer } from "#tests/support/processes.ts";
import { waitFor } from "#tests/support/wait.ts";

const NOW = 1_700_000_000_000;
const VIEW: FeatureView = { name: "v", version: 1, features: ["a"], freshMs: 1_000, ttlMs: 10_000 };
const LIMIT_MS = 100;
/** What a loaded machine may add to the limit. */
const SLACK_MS = 400;

let redis: TestServer;
let store: FeatureStore;
let view: FeatureViewStore;

beforeAll(async () => {
  redis = await startRedis();
  store = new FeatureStore({ url: redis.url, registry: new Registry(), timeoutMs: LIMIT_MS });
  await store.connect();
  view = store.view(VIEW);
});
afterAll(async () => {
  await store.close();
  await redis.close();
});
beforeEach(async () => {
  await view.write([{ entity: "X", eventTime: NOW, values: [1] }]);
});

/** Every read settles within the limit, with the code that is expected. */
async function readsFailWith(codes: readonly string[]): Promise<void> {
  const started = performance.now();
  const results = await Promise.allSettled(Array.from({ length: 50 }, () => view.read(["X"], NOW)));
  expect(performance.now() - started).toBeLessThan(LIMIT_MS + SLACK_MS);
  for (const result of results) {
    expect(result.status).toBe("rejected");
    if (result.status === "rejected") expect(codes).toContain(result.reason.code);
  }
}

const recovers = () => waitFor("a read", async () => (await view.read(["X"], NOW)).length === 1, 10_000);

describe("Redis", () => {
  it("frozen: reads end within their limit with TIMEOUT, and work again when it wakes", async () => {
    redis.process.signal("SIGSTOP");
    await readsFailWith(["TIMEOUT"]);
    await expect(store.ping()).rejects.toMatchObject({ code: "TIMEOUT" });
    redis.process.signal("SIGCONT");
    await recovers();
    expect((await view.read(["X"], NOW))[0]).toMatchObject({ status: "fresh" });
  });

  it("killed: reads end at once with UNAVAILABLE, and work again when it is back", async () => {
    const inFlight = view.read(["X"], NOW).catch((error) => error.code);
    await redis.process.end("SIGKILL");
    expect([[expect.objectContaining({ status: "fresh" })], "UNAVAILABLE"]).toContainEqual(await inFlight);
    await readsFailWith(["UNAVAILABLE"]);
    await expect(store.ping()).rejects.toMatchObject({ code: "UNAVAILABLE" });
    await redis.start();
    await recovers();
    expect((await view.read(["X"], NOW))[0]).toEqual({ status: "missing", reason: "absent" });
    await view.write([{ entity: "X", eventTime: NOW, values: [2] }]);
    expect((await view.read(["X"], NOW))[0]).toMatchObject({ status: "fresh" });
  });

  it("flushed: reads say missing, also through a cache once its entries have aged, and writes fill it again", async () => {
    const cached = new FeatureStore({
      url: redis.url,
      registry: new Registry(),
      cache: { maxEntries: 10, maxAgeMs: 200 },
    });
    await cached.connect();
    const reader = cached.view(VIEW);
    await reader.read(["X"], NOW);
    const admin = new Redis(redis.url);
    await admin.flushall();
    admin.disconnect();
    expect((await view.read(["X"], NOW))[0]).toEqual({ status: "missing", reason: "absent" });
    await waitFor("the cache", async () => (await reader.read(["X"], NOW))[0]?.status === "missing", 2_000);
    await view.write([{ entity: "X", eventTime: NOW - 1, values: [3] }]);
    expect((await view.read(["X"], NOW))[0]).toMatchObject({ status: "fresh" });
    await cached.close();
  });
});
