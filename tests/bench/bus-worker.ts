import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { kafkajs } from "#runtime/bus/kafka/library.ts";
import { percentile } from "./table.ts";

// One side of a benchmark of the bus, in a process of its own: told what to do by its arguments, answers with one
// JSON line.

const [role, brokers = "", topic = "", ...rest] = process.argv.slice(2);
const addresses = brokers.split(",");
const VALUE = Buffer.alloc(200);
const PARTITIONS = 4;

function fill(i: number): Buffer {
  const value = Buffer.from(VALUE);
  // Text that compresses as market data does: some of it repeats, some does not.
  value.write(
    `{"instrument":"INST${i % 20}","price":${(Math.abs(Math.sin(i)) * 1e5).toFixed(4)},"size":${(i * 7919) % 9973},"sequence":${i}`,
  );
  return value;
}

const cpuSeconds = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

async function measure(count: number, work: () => Promise<void>): Promise<void> {
  const cpu = cpuSeconds();
  const started = performance.now();
  await work();
  const seconds = (performance.now() - started) / 1_000;
  console.log(
    JSON.stringify({ perSecond: count / seconds, cpuPerMillion: ((cpuSeconds() - cpu) / count) * 1e6 }),
  );
}

async function produceBus(count: number, compression: "none" | "zstd"): Promise<void> {
  const bus = new KafkaBus({ brokers: addresses, clientId: "bench" });
  const producer = await bus.producer({ compression });
  await producer.send({ topic, value: VALUE, partition: 0 });
  const values = Array.from({ length: 1_000 }, (_, i) => fill(i));
  await measure(count, async () => {
    let open = 0;
    let wake = () => {};
    let failed: unknown;
    for (let i = 0; i < count; i++) {
      open += 1;
      producer.send({ topic, value: values[i % 1_000] as Buffer, partition: i % PARTITIONS }).then(
        () => {
          open -= 1;
          if (open < 9_000) wake();
        },
        (error: unknown) => {
          failed = error;
        },
      );
      if (failed !== undefined) throw failed;
      if (open >= 10_000) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
    await producer.flush();
  });
  await bus.close();
}

/** The raw client as its users call it when they care for speed: send() of 500, four in flight, idempotent. */
async function produceRaw(count: number, compression: "none" | "zstd"): Promise<void> {
  // The codec is registered by our adapter.
  const kafka = new kafkajs.Kafka({ brokers: addresses, logLevel: kafkajs.logLevel.NOTHING });
  const producer = kafka.producer({ idempotent: true });
  await producer.connect();
  await producer.send({ topic, acks: -1, messages: [{ value: VALUE, partition: 0 }] });
  const type = compression === "none" ? kafkajs.CompressionTypes.None : kafkajs.CompressionTypes.ZSTD;
  const values = Array.from({ length: 1_000 }, (_, i) => fill(i));
  await measure(count, async () => {
    let next = 0;
    const loop = async (partition: number) => {
      while (next < count) {
        const start = next;
        next += 500;
        const messages = Array.from({ length: 500 }, (_, i) => ({
          value: values[(start + i) % 1_000] as Buffer,
          partition,
        }));
        await producer.send({ topic, acks: -1, compression: type, messages });
      }
    };
    await Promise.all(Array.from({ length: PARTITIONS }, (_, partition) => loop(partition)));
  });
  await producer.disconnect();
}

async function consumeBus(count: number): Promise<void> {
  const bus = new KafkaBus({ brokers: addresses, clientId: "bench" });
  let seen = 0;
  let done = () => {};
  const all = new Promise<void>((resolve) => {
    done = resolve;
  });
  await measure(count, async () => {
    await bus.consumer({
      topics: [topic],
      from: "earliest",
      onFatal: (error) => {
        throw error;
      },
      onBatch: async (batch) => {
        seen += batch.records.length;
        if (seen >= count) done();
      },
    });
    await all;
  });
  await bus.close();
}

async function consumeRaw(count: number): Promise<void> {
  const kafka = new kafkajs.Kafka({ brokers: addresses, logLevel: kafkajs.logLevel.NOTHING });
  const consumer = kafka.consumer({ groupId: `raw-${process.pid}-${Date.now()}`, maxWaitTimeInMs: 10 });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  let seen = 0;
  let done = () => {};
  const all = new Promise<void>((resolve) => {
    done = resolve;
  });
  await measure(count, async () => {
    await consumer.run({
      partitionsConsumedConcurrently: PARTITIONS,
      eachBatch: async ({ batch }) => {
        seen += batch.messages.length;
        if (seen >= count) done();
      },
    });
    await all;
  });
  await consumer.disconnect();
}

/** Sends at a fixed rate; a record carries the time at which it was due, so that no stall hides. */
async function pace(perSecond: number, seconds: number): Promise<void> {
  const bus = new KafkaBus({ brokers: addresses, clientId: "bench" });
  const producer = await bus.producer();
  await producer.send({ topic, value: VALUE, partition: 0 });
  const started = Date.now() + 200;
  const total = perSecond * seconds;
  let next = 0;
  let failed: unknown;
  while (next < total) {
    const due = ((Date.now() - started) / 1_000) * perSecond;
    while (next < due && next < total) {
      const value = Buffer.from(VALUE);
      value.writeDoubleBE(started + (next / perSecond) * 1_000, 0);
      producer.send({ topic, value, partition: next % PARTITIONS }).catch((error: unknown) => {
        failed = error;
      });
      next += 1;
    }
    if (failed !== undefined) throw failed;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await producer.flush();
  console.log(JSON.stringify({ sent: next }));
  await bus.close();
}

/** Receives what `pace` sends and tells how late it was. */
async function watch(count: number, warmUp: number): Promise<void> {
  const bus = new KafkaBus({ brokers: addresses, clientId: "bench" });
  const late: number[] = [];
  let seen = 0;
  let done = () => {};
  const all = new Promise<void>((resolve) => {
    done = resolve;
  });
  await bus.consumer({
    topics: [topic],
    from: "latest",
    onFatal: (error) => {
      throw error;
    },
    onBatch: async (batch) => {
      const now = Date.now();
      for (const record of batch.records) {
        const due = record.value?.readDoubleBE(0) ?? 0;
        if (due === 0) continue;
        seen += 1;
        if (seen > warmUp) late.push(now - due);
      }
      if (seen >= count) done();
    },
  });
  process.send?.("ready");
  await all;
  const sorted = Float64Array.from(late).sort();
  const figures = {
    p50: percentile(sorted, 0.5),
    p95: percentile(sorted, 0.95),
    p99: percentile(sorted, 0.99),
  };
  console.log(JSON.stringify({ count: late.length, ...figures }));
  await bus.close();
}

const count = Number(rest[0]);
switch (role) {
  case "produce-bus":
    await produceBus(count, rest[1] === "zstd" ? "zstd" : "none");
    break;
  case "produce-raw":
    await produceRaw(count, rest[1] === "zstd" ? "zstd" : "none");
    break;
  case "consume-bus":
    await consumeBus(count);
    break;
  case "consume-raw":
    await consumeRaw(count);
    break;
  case "pace":
    await pace(count, Number(rest[1]));
    break;
  case "watch":
    await watch(count, Number(rest[1]));
    break;
  default:
    throw new Error(`unknown role ${role}`);
}
if (process.connected) process.disconnect();
