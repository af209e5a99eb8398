import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import type { Bus } from "#runtime/bus/port.ts";
import { waitFor } from "#tests/support/wait.ts";

/** What readiness goes by, in every adapter of the bus port. */
export function busProgressConformance(name: string, open: () => Bus): void {
  it(`bus conformance: ${name}: makes progress while nothing waits and while handlers finish, and none while records wait`, async () => {
    const bus = open();
    const topic = `t-${randomUUID()}`;
    await (await bus.admin()).ensureTopics([{ name: topic, partitions: 3 }]);
    const producer = await bus.producer({ lingerMs: 0 });
    const send = (value: string) => producer.send({ topic, partition: 0, value: Buffer.from(value) });
    const held = Promise.withResolvers<void>();
    let reached = false;
    const consumer = await bus.consumer({
      ...{
        group: `g-${randomUUID()}`,
        topics: [topic],
        from: "earliest",
        onFatal: () => expect.unreachable(),
      },
      onBatch: () => {
        reached = true;
        return held.promise;
      },
    });
    await waitFor("assignment", () => consumer.assignment().length === 3);
    const idle = Date.now();
    await waitFor("progress without records", () => consumer.lastProgress() > idle);
    expect(consumer.behind()).toEqual([]);

    await send("a");
    await waitFor("the handler", () => reached);
    await send("b");
    const stuck = Date.now();
    await sleep(300);
    expect(consumer.lastProgress()).toBeLessThanOrEqual(stuck);
    await waitFor("what waits", () => consumer.behind().length === 1);
    expect(consumer.behind()[0]).toMatchObject({ topic, partition: 0, offset: 0n });

    // Somebody who has paused a partition does not wait for it.
    consumer.pause([{ topic, partition: 0 }]);
    await waitFor("progress of the others", () => consumer.lastProgress() > stuck);
    expect(consumer.behind()).toEqual([]);
    consumer.resume([{ topic, partition: 0 }]);
    held.resolve();
    const freed = Date.now();
    await waitFor("progress", () => consumer.lastProgress() > freed && consumer.behind().length === 0);
    await bus.close();
  });
}
