import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeVector, encodeVector, type FeatureView, freshness, schemaHash } from "./vector.ts";

const view: FeatureView = { name: "ticks", version: 2, features: ["a", "b", "c"], freshMs: 100, ttlMs: 1000 };
const hash = schemaHash(view);

describe("vector", () => {
  it("gives back every value and time, unknown ones as NaN", () => {
    const float = fc.float({ noDefaultInfinity: false });
    fc.assert(
      fc.property(fc.tuple(float, float, float), fc.integer({ min: 0, max: 8.64e15 }), (values, time) => {
        const decoded = decodeVector(view, hash, encodeVector(view, hash, time, values));
        expect(decoded).toEqual({ ok: true, eventTime: time, values: Float32Array.from(values) });
      }),
    );
  });

  it("notices any changed byte", () => {
    const stored = encodeVector(view, hash, 1_700_000_000_000, [1, 2, 3]);
    fc.assert(
      fc.property(fc.nat(stored.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const copy = Buffer.from(stored);
        copy[at] = (copy[at] ?? 0) ^ flip;
        expect(decodeVector(view, hash, copy).ok).toBe(false);
      }),
      { numRuns: 500 },
    );
  });

  it("never throws on bytes of any kind", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        expect(decodeVector(view, hash, Buffer.from(bytes)).ok).toBe(false);
      }),
    );
  });

  it("refuses a vector of another version of the view", () => {
    const next = { ...view, version: 3 };
    const stored = encodeVector(next, schemaHash(next), 0, [1, 2, 3]);
    expect(decodeVector(view, hash, stored)).toEqual({ ok: false, reason: "schema" });
  });

  it("reads from a buffer at an odd position", () => {
    const stored = Buffer.concat([Buffer.from([0]), encodeVector(view, hash, 5, [1, 2, 3])]).subarray(1);
    expect(decodeVector(view, hash, stored)).toMatchObject({ ok: true, values: Float32Array.of(1, 2, 3) });
  });

  it.each([[[1, 2]], [[1, 2, 3, 4]]])("refuses to store %j for three features", (values) => {
    expect(() => encodeVector(view, hash, 0, values)).toThrow(/3 features/);
  });

  it.each([
    [-4_321e9, "future"],
    [-5_001, "future"],
    [-5_000, "stale"],
    [-1_001, "stale"],
    [-1_000, "fresh"],
    [-5, "fresh"],
    [100, "fresh"],
    [101, "stale"],
    [1000, "stale"],
    [1001, "expired"],
  ])("at an age of %d ms is %s", (age, expected) => {
    expect(freshness(view, age, 5_000)).toBe(expected);
  });
});
