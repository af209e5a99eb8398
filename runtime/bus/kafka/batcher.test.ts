import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { OutRecord } from "../port.ts";
import { PartitionBatcher } from "./batcher.ts";
import { chunks, recordBytes } from "./size.ts";

interface Write {
  readonly partition: number;
  readonly values: readonly string[];
  readonly finish: () => void;
  readonly fail: (error: Error) => void;
}

/** A batcher whose writes end when the test says so. */
function setUp(
  options: { lingerMs?: number; batchBytes?: number; bufferBytes?: number; maxBlockMs?: number } = {},
) {
  const writes: Write[] = [];
  const open = new Map<number, number>();
  let offset = 0n;
  let overlap = 0;
  const batcher = new PartitionBatcher({
    lingerMs: 0,
    batchBytes: 10_000,
    bufferBytes: 100_000,
    maxBlockMs: 1_000,
    ...options,
    write: (_topic, partition, records) => {
      open.set(partition, (open.get(partition) ?? 0) + 1);
      if ((open.get(partition) ?? 0) > 1) overlap += 1;
      return new Promise((resolve, reject) => {
        const done = () => open.set(partition, (open.get(partition) ?? 1) - 1);
        const values = records.map((record) => String(record.value));
        const base = offset;
        offset += BigInt(records.length);
        writes.push({
          partition,
          values,
          finish: () => {
            done();
            resolve(base);
          },
          fail: (error) => {
            done();
            reject(error);
          },
        });
      });
    },
  });
  return { batcher, writes, overlap: () => overlap };
}

const record = (value: string): OutRecord => ({ topic: "t", value: Buffer.from(value) });
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("the batcher", () => {
  it("has one request in flight a partition, and sends what came meanwhile in the next", async () => {
    const { batcher, writes } = setUp();
    const sends = ["a", "b", "c"].map((value) => batcher.send(record(value), 0));
    void batcher.send(record("other"), 1);
    expect(writes.map((write) => [write.partition, write.values])).toEqual([
      [0, ["a"]],
      [1, ["other"]],
    ]);
    writes[0]?.finish();
    await turn();
    expect(writes[2]?.values).toEqual(["b", "c"]);
    writes[2]?.finish();
    const places = await Promise.all(sends);
    expect(places.map((place) => place.offset)).toEqual([0n, 2n, 3n]);
  });

  it("waits for company, but not for longer than its linger", async () => {
    const { batcher, writes } = setUp({ lingerMs: 20 });
    void batcher.send(record("a"), 0);
    void batcher.send(record("b"), 0);
    expect(writes).toEqual([]);
    await new Promise((resolve) => setTimeout(resolve, 40));
    expect(writes[0]?.values).toEqual(["a", "b"]);
  });

  it("makes senders wait while the buffer is full, and lets them go on in their order", async () => {
    const { batcher, writes } = setUp({ bufferBytes: 250 });
    const order: string[] = [];
    const send = (value: string) => batcher.send(record(value), 0).then(() => order.push(value));
    const sends = ["a", "b", "c", "d", "e"].map(send);
    await turn();
    expect(batcher.buffered).toBeLessThanOrEqual(250);
    for (let i = 0; i < 5; i++) {
      writes.at(-1)?.finish();
      await turn();
      await turn();
    }
    for (const write of writes) write.finish();
    await Promise.all(sends);
    expect(order).toEqual(["a", "b", "c", "d", "e"]);
    expect(batcher.buffered).toBe(0);
  });

  it("rejects with BUFFER_FULL when there is no room for too long, and works on afterwards", async () => {
    const { batcher, writes } = setUp({ bufferBytes: 100, maxBlockMs: 30 });
    const first = batcher.send(record("a"), 0);
    await expect(batcher.send(record("b"), 0)).rejects.toMatchObject({ code: "BUFFER_FULL" });
    writes[0]?.finish();
    await first;
    const next = batcher.send(record("c"), 0);
    writes[1]?.finish();
    await expect(next).resolves.toBeDefined();
  });

  it("fails the records of a failed request and no others", async () => {
    const { batcher, writes } = setUp();
    const first = batcher.send(record("a"), 0);
    const second = batcher.send(record("b"), 0);
    writes[0]?.fail(new Error("no"));
    await expect(first).rejects.toThrow("no");
    await turn();
    writes[1]?.finish();
    await expect(second).resolves.toBeDefined();
    await batcher.flush();
  });

  it("keeps order and never overlaps, whatever comes in whatever sizes", async () => {
    const sizes = fc.array(fc.tuple(fc.nat(2), fc.integer({ min: 1, max: 400 })), { maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(sizes, async (list) => {
        const { batcher, writes, overlap } = setUp({ batchBytes: 500, bufferBytes: 2_000 });
        const sends = list.map(([partition, size], i) =>
          batcher.send(record(`${i} ${"x".repeat(size)}`), partition),
        );
        let finished = 0;
        const all = Promise.all(sends);
        for (let idle = 0; idle < 5; ) {
          await turn();
          if (finished === writes.length) idle += 1;
          else idle = 0;
          for (; finished < writes.length; finished++) writes[finished]?.finish();
        }
        await all;
        expect(overlap()).toBe(0);
        for (let partition = 0; partition < 3; partition++) {
          const written = writes
            .filter((write) => write.partition === partition)
            .flatMap((write) => write.values);
          const sent = list.flatMap(([p], i) => (p === partition ? [i] : []));
          expect(written.map((value) => Number.parseInt(value, 10))).toEqual(sent);
        }
      }),
      { numRuns: 50 },
    );
  });
});

describe("chunks", () => {
  it("hold every record once, in order, within the limit unless one alone is larger", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 2_000 })), (sizes) => {
        const records = sizes.map((size) => record("x".repeat(size)));
        const cut = chunks(records, 1_000);
        expect(cut.flat()).toEqual(records);
        for (const chunk of cut) {
          const bytes = chunk.reduce((sum, entry) => sum + recordBytes(entry), 0);
          expect(chunk.length === 1 || bytes <= 1_000).toBe(true);
        }
      }),
    );
  });
});
