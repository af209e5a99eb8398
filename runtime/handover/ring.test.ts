import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Outcome } from "./outcome.ts";
import { Ring } from "./ring.ts";

const PLACE = { topic: "md.crypto.main", partition: 3 };
const FROM = 100n;

/** Outcomes without their offsets, which rise by one or more. */
const outcomes = fc.array(
  fc.record({
    step: fc.integer({ min: 1, max: 3 }),
    instrument: fc.string({ unit: "grapheme", maxLength: 12 }),
    kind: fc.constantFrom("decision", "rejected"),
    key: fc.option(fc.string({ unit: "grapheme", maxLength: 12 }), { nil: undefined }),
    value: fc.option(fc.uint8Array({ maxLength: 400 }), { nil: null }),
    headers: fc.dictionary(fc.string({ maxLength: 8 }), fc.string({ unit: "grapheme", maxLength: 30 })),
  }),
  { maxLength: 60 },
);

type Drawn = Omit<Outcome, "input" | "value"> & { readonly step: number; readonly value: Uint8Array | null };

function fill(limit: number, list: readonly Drawn[]) {
  const ring = new Ring(limit, PLACE, FROM);
  const all: Outcome[] = [];
  let offset = FROM - 1n;
  for (const { step, value, headers, ...rest } of list) {
    offset += BigInt(step);
    const outcome = {
      ...rest,
      headers: { ...headers },
      input: { ...PLACE, offset },
      value: value === null ? null : Buffer.from(value),
    } as const;
    all.push(outcome);
    ring.push(outcome);
    expect(ring.bytes).toBeLessThanOrEqual(limit);
  }
  return { ring, all };
}

describe("the ring of shadow outcomes", () => {
  it("gives back all that it says it has, as it was put in, within its bytes", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20_000 }),
        outcomes,
        fc.nat(120),
        fc.nat(120),
        (limit, list, a, b) => {
          const { ring, all } = fill(limit, list);
          const [from, to] = [BigInt(Math.min(a, b)) + FROM, BigInt(Math.max(a, b)) + FROM];
          const low = from > ring.from ? from : ring.from;
          const kept = all.filter(({ input }) => input.offset >= low && input.offset < to);
          expect(ring.between(low, to)).toEqual(kept);
        },
      ),
    );
  });

  it("loses the oldest first, and not before it is full", () => {
    const same = { step: 1, instrument: "BTCUSDT", kind: "decision", key: "BTCUSDT", headers: {} } as const;
    const list = Array.from({ length: 1_000 }, () => ({ ...same, value: new Uint8Array(100) }));
    expect(fill(1_000_000, list).ring.from).toBe(FROM);
    // Seven eighths of it at least are in use at any time: some 160 bytes each.
    for (let count = 600; count <= 1_000; count += 20) {
      const { ring } = fill(80_000, list.slice(0, count));
      expect(ring.from).toBeGreaterThan(FROM);
      expect(ring.between(ring.from, FROM + 1_000n).length).toBeGreaterThan(400);
    }
  });
});
