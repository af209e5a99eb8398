import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { Redis } from "ioredis";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { FeatureStore, type FeatureView, schemaHash } from "#runtime/features/index.ts";
import { encodeVector } from "#runtime/features/vector.ts";
import { waitFor } from "#tests/support/wait.ts";

const url = `redis://127.0.0.1:${inject("cluster").ports.redis}`;
const registry = new Registry();
// Time limits have tests of their own; here a busy machine must not be an error.
const timeoutMs = 5_000;
const store = new FeatureStore({ url, registry, timeoutMs });
const redis = new Redis(url);

beforeAll(() => store.connect());
afterAll(async () => {
  await store.close();
  redis.disconnect();
});

const NOW = 1_700_000_000_000;

function newView(extra: Partial<FeatureView> = {}): FeatureView {
  return {
    name: `v-${randomUUID()}`,
    version: 1,
    features: ["a", "b"],
    freshMs: 1_000,
    ttlMs: 10_000,
    ...extra,
  };
}

describe("feature store", () => {
  it("gives back values, age and freshness by event time", async () => {
    const view = store.view(newView());
    await view.write([{ entity: "BTC", eventTime: NOW, values: [1.5, -2] }]);
    const at = async (ms: number) => (await view.read(["BTC"], NOW + ms))[0];
    expect(await at(500)).toEqual({
      status: "fresh",
      values: Float32Array.of(1.5, -2),
      eventTime: NOW,
      ageMs: 500,
    });
    expect(await at(5_000)).toMatchObject({ status: "stale", ageMs: 5_000 });
    expect(await at(10_001)).toEqual({ status: "expired", eventTime: NOW, ageMs: 10_001 });
  });

  it("answers for many entities in their order, absent ones included", async () => {
    const view = store.view(newView());
    const entities = Array.from({ length: 2_500 }, (_, i) => `E${i}`);
    await view.write(
      entities.filter((_, i) => i % 2 === 0).map((entity, i) => ({ entity, eventTime: NOW, values: [i, 0] })),
    );
    const reads = await view.read(entities, NOW);
    expect(reads.map((read) => read.status === "missing")).toEqual(entities.map((_, i) => i % 2 === 1));
    expect(reads[2_498]).toMatchObject({ values: Float32Array.of(1_249, 0) });
    expect(await view.read([], NOW)).toEqual([]);
  });

  it("never goes back in time, whatever the order of writes", async () => {
    const times = fc.array(fc.integer({ min: 0, max: 1_000 }), { minLength: 1, maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(times, async (offsets) => {
        const view = store.view(newView());
        let newest = -1;
        for (const [i, offset] of offsets.entries()) {
          const [result] = await view.write([{ entity: "X", eventTime: NOW + offset, values: [i, offset] }]);
          expect(result).toBe(offset >= newest ? "written" : "older");
          newest = Math.max(newest, offset);
        }
        expect((await view.read(["X"], NOW))[0]).toMatchObject({ eventTime: NOW + newest });
      }),
      { numRuns: 20 },
    );
  });

  const MINUTE = 60_000;

  it("takes nothing from the future, by Redis's clock, whatever the writer's says", async () => {
    const view = store.view(newView());
    const now = Date.now();
    const times = [now, now + MINUTE, now * 1_000, Number.MAX_VALUE, now - MINUTE];
    const results = await view.write(
      times.map((eventTime, i) => ({ entity: `E${i}`, eventTime, values: [i, 0] })),
    );
    expect(results).toEqual(["written", "future", "future", "future", "written"]);
    const reads = await view.read(["E1", "E2", "E3"], now);
    expect(reads).toEqual(Array(3).fill({ status: "missing", reason: "absent" }));
    const metrics = await registry.getSingleMetricAsString("baton_features_writes_total");
    expect(metrics).toContain(`view="${view.view.name}",result="future"} 3`);
  });

  it.each<[string, (now: number) => number]>([
    ["microseconds", (now) => now * 1_000],
    ["the end of all numbers", () => Number.MAX_VALUE],
    ["tomorrow", (now) => now + 24 * 60 * MINUTE],
    ["half a minute ahead", (now) => now + MINUTE / 2],
  ])(
    "heals an entity that was poisoned with %s by the next vector, and gives out nothing before",
    async (_, at) => {
      const definition = newView();
      const view = store.view(definition);
      const now = Date.now();
      const poisoned = encodeVector(definition, schemaHash(definition), at(now), [9, 9]);
      await redis.set(`f:${definition.name}:1:X`, poisoned);
      expect(await view.read(["X"], now)).toEqual([{ status: "missing", reason: "future" }]);
      expect(await view.write([{ entity: "X", eventTime: now - 5, values: [1, 2] }])).toEqual(["written"]);
      expect((await view.read(["X"], now))[0]).toMatchObject({
        status: "fresh",
        values: Float32Array.of(1, 2),
      });
    },
  );

  it("lets an event that is ahead by no more than clocks differ stand against an older one", async () => {
    const view = store.view(newView());
    const now = Date.now();
    const write = async (eventTime: number) =>
      (await view.write([{ entity: "X", eventTime, values: [1, 1] }]))[0];
    expect([await write(now + 900), await write(now - 100)]).toEqual(["written", "older"]);
  });

  it("takes events further ahead where it is told to, and holds nothing up by them", async () => {
    const lenient = new FeatureStore({ url, registry: new Registry(), timeoutMs, maxFutureMs: 2 * MINUTE });
    await lenient.connect();
    const view = lenient.view(newView());
    const now = Date.now();
    const write = async (eventTime: number) =>
      (await view.write([{ entity: "X", eventTime, values: [1, 1] }]))[0];
    expect(await write(now + MINUTE)).toBe("written");
    expect((await view.read(["X"], now))[0]?.status).toBe("stale");
    expect([await write(now), await write(now + 3 * MINUTE)]).toEqual(["written", "future"]);
    await lenient.close();
  });

  it("keeps the newest of writers that race", async () => {
    const view = store.view(newView());
    const writes = Array.from({ length: 200 }, (_, i) => ({
      entity: "X",
      eventTime: NOW + ((i * 37) % 200),
      values: [i, 0],
    }));
    await Promise.all(writes.map((write) => view.write([write])));
    expect((await view.read(["X"], NOW))[0]).toMatchObject({ eventTime: NOW + 199 });
  });

  it("takes a damaged vector, and one of another meaning, for missing, and says which", async () => {
    const definition = newView();
    const view = store.view(definition);
    await redis.set(`f:${definition.name}:1:bad`, "garbage");
    expect(await view.read(["bad"], NOW)).toEqual([{ status: "missing", reason: "corrupt" }]);
    await view.write([{ entity: "good", eventTime: NOW, values: [1, 2] }]);
    const other = store.view({ ...definition, features: ["b", "a"] });
    expect(await other.read(["good"], NOW)).toEqual([{ status: "missing", reason: "schema" }]);
  });

  it("keeps versions apart and cleans old ones up", async () => {
    const definition = newView();
    const old = store.view(definition);
    const next = store.view({ ...definition, version: 2 });
    await old.write(
      Array.from({ length: 1_200 }, (_, i) => ({ entity: `E${i}`, eventTime: NOW, values: [1, 1] })),
    );
    await next.write([{ entity: "E0", eventTime: NOW, values: [2, 2] }]);
    expect(await next.dropVersionsBelow(2)).toBe(1_200);
    expect((await old.read(["E0"], NOW))[0]).toEqual({ status: "missing", reason: "absent" });
    expect((await next.read(["E0"], NOW))[0]).toMatchObject({ status: "fresh" });
  });

  it("lets Redis forget a vector some time after its end", async () => {
    const definition = newView();
    await store.view(definition).write([{ entity: "X", eventTime: NOW, values: [1, 1] }]);
    const left = await redis.pttl(`f:${definition.name}:1:X`);
    expect(left).toBeGreaterThan(definition.ttlMs);
    expect(left).toBeLessThanOrEqual(definition.ttlMs + 60_000);
  });

  it("refuses values that do not fit, and writes nothing of the batch", async () => {
    const view = store.view(newView());
    const writes = [
      { entity: "A", eventTime: NOW, values: [1, 2] },
      { entity: "B", eventTime: NOW, values: [1] },
    ];
    await expect(view.write(writes)).rejects.toMatchObject({ code: "BAD_VECTOR" });
    expect((await view.read(["A"], NOW))[0]?.status).toBe("missing");
  });

  it("drops a vector from the cache when another process writes it", async () => {
    const cached = new FeatureStore({
      url,
      registry: new Registry(),
      timeoutMs,
      cache: { maxEntries: 100, maxAgeMs: 60_000 },
    });
    await cached.connect();
    const definition = newView();
    const reader = cached.view(definition);
    const writer = store.view(definition);
    await writer.write([{ entity: "X", eventTime: NOW, values: [1, 1] }]);
    const firstValue = async () => {
      const [read] = await reader.read(["X"], NOW);
      return read !== undefined && "values" in read ? read.values[0] : undefined;
    };
    expect(await firstValue()).toBe(1);
    // Proof that it comes from the cache: a change behind the store's back is not seen.
    await waitFor("the cache", async () => {
      await firstValue();
      await redis.del(`f:${definition.name}:1:X`);
      const hit = (await firstValue()) === 1;
      if (!hit) await writer.write([{ entity: "X", eventTime: NOW, values: [1, 1] }]);
      return hit;
    });
    await writer.write([{ entity: "X", eventTime: NOW + 1, values: [2, 2] }]);
    await waitFor("the new value", async () => (await firstValue()) === 2);
    await cached.close();
  });

  it("counts reads by status", async () => {
    const definition = newView();
    await store.view(definition).read(["nobody"], NOW);
    const metrics = await registry.getSingleMetricAsString("baton_features_reads_total");
    expect(metrics).toContain(`view="${definition.name}",status="missing"} 1`);
  });
});
