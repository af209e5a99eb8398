import { fork } from "node:child_process";
import { join } from "node:path";
import { kafkaClass } from "#clusters/local/kafka.ts";
import { exec } from "#clusters/local/toolchain/exec.ts";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { startBrokers } from "#tests/support/processes.ts";
import { alternate, machine, show, spread, table } from "./table.ts";

// The bus against the raw client and Kafka's own tool on one broker: 200-byte values, acks=all, four partitions.

const COUNT = 300_000;
const RUNS = 3;
const brokers = await startBrokers(1);
const address = brokers.addresses.join();
const bus = new KafkaBus({ brokers: brokers.addresses, clientId: "bench" });
const admin = await bus.admin();
let topics = 0;

interface Speed {
  readonly perSecond: number;
  readonly cpuPerMillion: number;
}

async function newTopic(): Promise<string> {
  const name = `bench-${topics++}`;
  await admin.ensureTopics([{ name, partitions: 4 }]);
  return name;
}

/** Runs one side in its own process and returns its JSON line. */
function worker<T>(
  role: string,
  topic: string,
  args: readonly (string | number)[],
  onReady?: () => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const child = fork(
      join(import.meta.dirname, "bus-worker.ts"),
      [role, address, topic, ...args.map(String)],
      { stdio: ["ignore", "pipe", "inherit", "ipc"] },
    );
    let output = "";
    child.stdout?.on("data", (chunk) => {
      output += String(chunk);
    });
    child.on("message", () => onReady?.());
    child.on("close", (code) =>
      code === 0 ? resolve(JSON.parse(output) as T) : reject(new Error(`${role}: exit ${code}`)),
    );
  });
}

async function javaTool(compression: "none" | "zstd"): Promise<Speed> {
  const topic = await newTopic();
  const args = [
    "--topic",
    topic,
    "--num-records",
    String(COUNT),
    "--record-size",
    "200",
    "--throughput",
    "-1",
  ];
  const props = [
    "--producer-props",
    `bootstrap.servers=${address}`,
    "acks=all",
    "linger.ms=5",
    `compression.type=${compression}`,
  ];
  const jvm = ["-Xmx256m", "-Dlog4j2.level=OFF"];
  const tool = kafkaClass(
    brokers.libs,
    "org.apache.kafka.tools.ProducerPerformance",
    [...args, ...props],
    jvm,
  );
  // The shell tells the processor time of what it ran; that of starting a JVM is in it.
  const script = 'TIMEFORMAT="cpu %U %S"; time java "$@"';
  const { tail } = await exec("bash", ["-c", script, "bash", ...tool]);
  const rates = tail
    .map((line) => /([\d.]+) records\/sec/.exec(line)?.[1])
    .filter((rate) => rate !== undefined);
  const cpu = tail.map((line) => /^cpu ([\d.]+) ([\d.]+)$/.exec(line)).find((match) => match !== null);
  const seconds = Number(cpu?.[1]) + Number(cpu?.[2]);
  return { perSecond: Number(rates.at(-1)), cpuPerMillion: (seconds / COUNT) * 1e6 };
}

console.log(machine());
for (const compression of ["none", "zstd"] as const) {
  const results = await alternate<Speed>(
    {
      bus: async () => worker("produce-bus", await newTopic(), [COUNT, compression]),
      "raw kafkajs": async () => worker("produce-raw", await newTopic(), [COUNT, compression]),
      "kafka-producer-perf-test": () => javaTool(compression),
    },
    RUNS,
  );
  report(`Producing, compression ${compression}, ${COUNT} records, ${RUNS} runs`, results);
}

const full = await newTopic();
const CONSUMED = 3 * COUNT;
await worker("produce-bus", full, [CONSUMED, "none"]);
report(
  `Consuming ${CONSUMED} records, ${RUNS} runs (joining the group included)`,
  await alternate<Speed>(
    {
      bus: () => worker("consume-bus", full, [CONSUMED]),
      "raw kafkajs": () => worker("consume-raw", full, [CONSUMED]),
    },
    RUNS,
  ),
);

const SECONDS = 12;
const rows: string[][] = [];
for (const rate of [2_000, 10_000]) {
  const runs: { p50: number; p95: number; p99: number; count: number }[] = [];
  for (let run = 0; run < RUNS; run++) {
    const topic = await newTopic();
    let sending: Promise<unknown> = Promise.resolve();
    runs.push(
      await worker("watch", topic, [rate * SECONDS, rate * 2], () => {
        sending = worker("pace", topic, [rate, SECONDS]);
      }),
    );
    await sending;
  }
  const column = (key: "p50" | "p95" | "p99") => show(spread(runs.map((run) => run[key])), 1);
  rows.push([rate.toLocaleString("en-US"), column("p50"), column("p95"), column("p99")]);
}
table(
  `End to end, two processes, from the time a record was due to its handler, ${SECONDS} s of which 2 s warm-up`,
  ["records/s", "p50 ms", "p95 ms", "p99 ms"],
  rows,
);
await bus.close();
await brokers.close();

function report(title: string, results: ReadonlyMap<string, readonly Speed[]>): void {
  const raw = spread((results.get("raw kafkajs") ?? []).map((speed) => speed.perSecond)).median;
  table(
    title,
    ["client", "records/s", "CPU s per million", "against raw kafkajs"],
    [...results].map(([name, speeds]) => {
      const perSecond = spread(speeds.map((speed) => speed.perSecond));
      const cpu = spread(speeds.map((speed) => speed.cpuPerMillion));
      return [name, show(perSecond), show(cpu, 1), (perSecond.median / raw).toFixed(2)];
    }),
  );
}
