import { describe, expect, it } from "vitest";
import { ConsumerProgress, checkProgress } from "./progress.ts";

const place = { topic: "t", partition: 0 };
const other = { topic: "t", partition: 1 };
const answer = (next: number, end: number, lastStable = end) => ({
  ...{ next: BigInt(next), end: BigInt(end), lastStable: BigInt(lastStable) },
});

function begun(): ConsumerProgress {
  const progress = new ConsumerProgress(0);
  progress.assigned(place, 0);
  return progress;
}

describe("the progress of a consumer", () => {
  it("is the latest sign of life while it has no partition", () => {
    const progress = new ConsumerProgress(0);
    progress.heard(7);
    expect(progress.lastProgress()).toBe(7);
  });

  it("goes on while a broker says that nothing waits, and when a batch is handled", () => {
    const progress = begun();
    progress.answered(place, answer(5, 5), 10);
    expect(progress.lastProgress()).toBe(10);
    progress.answered(place, answer(5, 8), 20);
    expect(progress.lastProgress()).toBe(10);
    progress.handled(place, 7n, 30);
    expect(progress.lastProgress()).toBe(30);
  });

  it("stands still while records wait, however often the broker answers and the client is made anew", () => {
    const progress = begun();
    for (let now = 1; now < 100; now++) {
      progress.heard(now);
      progress.assigned(place, now);
      progress.keep([place]);
      progress.answered(place, answer(3, 9), now);
    }
    expect(progress.lastProgress()).toBe(0);
    expect(progress.behind()).toEqual([{ ...place, offset: 3n, end: 9n, since: 0 }]);
  });

  it("stands still while no broker answers", () => {
    const progress = begun();
    progress.answered(place, answer(5, 5), 10);
    progress.heard(500);
    expect(progress.lastProgress()).toBe(10);
    expect(progress.behind()).toEqual([]);
  });

  it("stands still where a log has become shorter than what was read of it", () => {
    const progress = begun();
    progress.answered(place, answer(900, 900), 10);
    progress.answered(place, answer(900, 20), 20);
    expect(progress.lastProgress()).toBe(10);
    expect(() => checkProgress(progress, 16_000)).toThrow("t/0 stands at 900 of 20");
  });

  it("is that of the partition that is furthest back, and of none that is paused or gone", () => {
    const progress = begun();
    progress.assigned(other, 0);
    progress.answered(other, answer(1, 1), 50);
    expect(progress.lastProgress()).toBe(0);
    progress.paused(place, true, 60);
    expect(progress.lastProgress()).toBe(50);
    progress.paused(place, false, 70);
    expect(progress.lastProgress()).toBe(50);
    progress.answered(other, answer(1, 1), 90);
    expect(progress.lastProgress()).toBe(70);
    progress.keep([other]);
    expect(progress.lastProgress()).toBe(90);
  });

  it("goes on while a transaction is open in front, and no longer than one may be", () => {
    const progress = begun();
    for (let now = 0; now <= 300_000; now += 1_000) progress.answered(place, answer(4, 9, 4), now);
    expect(progress.lastProgress()).toBe(59_000);
    progress.answered(place, answer(9, 9), 301_000);
    expect(progress.lastProgress()).toBe(301_000);
  });
});

describe("readiness by progress", () => {
  it("says which partition stands where, or that Kafka does not answer", () => {
    const progress = begun();
    progress.answered(place, answer(17, 37), 1_000);
    expect(() => checkProgress(progress, 15_000)).not.toThrow();
    expect(() => checkProgress(progress, 16_000)).toThrow(
      "records wait and none has been handled for 16000 ms: t/0 stands at 17 of 37",
    );
    progress.handled(place, 37n, 16_000);
    expect(() => checkProgress(progress, 16_000)).not.toThrow();
    expect(() => checkProgress(progress, 40_000)).toThrow("Kafka has not answered for 24000 ms");
  });
});
