import { expect, it } from "vitest";
import { MemoryBroker } from "#runtime/bus/memory/broker.ts";
import { MemoryBus } from "#runtime/bus/memory/index.ts";
import { waitFor } from "#tests/support/wait.ts";
import { memoryMarks } from "./marks.ts";
import { applyOnce, decisionId } from "./once.ts";
import { OUTCOME_HEADER } from "./outcome.ts";

const TOPIC = "signals.d";

async function decisions(count: number): Promise<MemoryBroker> {
  const broker = new MemoryBroker();
  const bus = new MemoryBus(broker);
  await (await bus.admin()).ensureTopics([{ name: TOPIC, partitions: 2 }]);
  const producer = await bus.producer();
  for (let offset = 0; offset < count; offset++) {
    const instrument = offset % 2 === 0 ? "BTCUSDT" : "ETHUSDT";
    await producer.send({
      topic: TOPIC,
      partition: offset % 2,
      key: instrument,
      value: Buffer.from(String(offset)),
      headers: {
        [OUTCOME_HEADER.input]: `md/0/${offset}`,
        [OUTCOME_HEADER.instrument]: instrument,
        [OUTCOME_HEADER.revision]: "a",
        [OUTCOME_HEADER.kind]: "decision",
        [OUTCOME_HEADER.action]: "live",
      },
    });
  }
  return broker;
}

it("names a decision by the deployment and its input", () => {
  expect(decisionId("d", { topic: "md", partition: 3, offset: 7n })).toBe("d/md/3/7");
});

it("applies each decision once, also when everything is delivered again", async () => {
  const broker = await decisions(40);
  const marks = memoryMarks();
  const applied: string[] = [];
  const run = async (group: string) => {
    const bus = new MemoryBus(broker);
    const apply = async (_: unknown, id: string) => void applied.push(id);
    await applyOnce({
      bus,
      deployment: "d",
      topic: TOPIC,
      group,
      marks,
      apply,
      onFatal: (error) => expect.unreachable(error.message),
    });
    return bus;
  };
  const first = await run("risk");
  await waitFor("all", () => applied.length === 40);
  await first.close();
  // A second reader of the same group that begins anew: its read positions are gone, the marks are not.
  const again = new MemoryBroker();
  for (const name of broker.topicNames()) {
    again.createTopic({ name, partitions: 2 });
    for (const record of broker.partitions(name).flat()) {
      again.append({ ...record, key: record.key ?? "" }, record.partition);
    }
  }
  const bus = new MemoryBus(again);
  await applyOnce({
    bus,
    deployment: "d",
    topic: TOPIC,
    group: "risk",
    marks,
    apply: async (_, id) => void applied.push(id),
    onFatal: (error) => expect.unreachable(error.message),
  });
  await waitFor("everything to be read", async () => {
    const offsets = await (await bus.admin()).committed("risk", TOPIC);
    return [...offsets.values()].reduce((sum, offset) => sum + offset, 0n) === 40n;
  });
  expect(applied).toHaveLength(40);
  expect(new Set(applied).size).toBe(40);
  await bus.close();
});

it("applies a decision again, with its id, when it died before the mark", async () => {
  const broker = await decisions(1);
  const applied: string[] = [];
  const marks = memoryMarks();
  let fail = true;
  const options = {
    deployment: "d",
    topic: TOPIC,
    group: "risk",
    marks: {
      get: marks.get,
      raise: async (key: string, offset: bigint) => {
        if (fail) throw new Error("died");
        await marks.raise(key, offset);
      },
    },
    apply: async (_: unknown, id: string) => void applied.push(id),
  };
  let died: Error | undefined;
  const onFatal = (error: Error) => {
    died = error;
  };
  await applyOnce({ ...options, bus: new MemoryBus(broker), onFatal });
  await waitFor("the end", () => died !== undefined);
  fail = false;
  await applyOnce({ ...options, bus: new MemoryBus(broker), onFatal });
  await waitFor("the second time", () => applied.length === 2);
  expect(new Set(applied)).toEqual(new Set(["d/md/0/0"]));
});
