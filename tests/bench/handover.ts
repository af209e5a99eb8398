import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { Conductor } from "#runtime/handover/conductor.ts";
import { verifyHistory } from "#runtime/handover/history/read.ts";
import { groupOf } from "#runtime/handover/standing.ts";
import { claim, placesOf } from "#tests/support/handover.ts";
import { handoverProcess } from "#tests/support/nemesis.ts";
import { startBrokers } from "#tests/support/processes.ts";
import { waitFor } from "#tests/support/wait.ts";
import { Market } from "./market.ts";
import { machine, percentile, show as showSpread, spread, table } from "./table.ts";

// How long an instrument is without decisions while it is handed over, and what the transactions' size does to latency:
// two revisions in a process each, 20 instruments, one broker, all on this machine. And what the library
// costs in throughput.

const TOPIC = "md.crypto.main";
const DEPLOYMENT = "d";
const PARTITIONS = 2;
const MOVES = Number(process.env["MOVES"] ?? 100);
/** The first ones are not measured: the code of a hand-over is compiled when it has run for a while. */
const WARM_UP_MOVES = 20;
/** The broker's JVM compiles, and the workers' beginnings are worked off. */
const WARM_UP_MS = Number(process.env["WARM_UP_SECONDS"] ?? 120) * 1_000;
/** Where nothing is moved, and one line is held against another. */
const SHORT_WARM_UP_MS = 30_000;
const RATES = (process.env["RATES"] ?? "1000,10000").split(",").map(Number);

const BACKLOG = 500_000;
const DRAINS = 3;
const MESSAGE = Buffer.alloc(200, "x");
const KINDS = ["without the library", "with it, all live", "with it, all shadow"] as const;
type Kind = (typeof KINDS)[number];

interface Run {
  readonly pauses: readonly number[];
  readonly latencies: readonly number[];
  /** Percent of a core: the broker, each worker, what feeds and watches. */
  readonly cpu: readonly number[];
}

/** Milliseconds of processor time that a process has taken. */
async function cpuOf(pid: number | undefined): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

interface Setting {
  readonly perSecond: number;
  readonly moves: number;
  readonly partitions?: number;
  readonly maxWaitMs?: number;
  readonly positionMs?: number;
}

async function run({
  perSecond,
  moves,
  partitions = PARTITIONS,
  maxWaitMs = 10,
  positionMs = 250,
}: Setting): Promise<Run> {
  const brokers = await startBrokers(1, { jvm: "server" });
  const bus = new KafkaBus({ brokers: brokers.addresses, clientId: "bench" });
  await (await bus.admin()).ensureTopics([{ name: TOPIC, partitions }]);
  // As the operator makes them: with as many partitions as the input, so that an instrument has the same one in both.
  await claim(bus, DEPLOYMENT, "a", TOPIC, partitions);
  const env = {
    KAFKA_BROKERS: brokers.addresses.join(),
    DEPLOYMENT,
    TOPIC,
    MAX_WAIT_MS: String(maxWaitMs),
    POSITION_MS: String(positionMs),
    MIN_BYTES: String(1024 * 1024),
  };
  const workers = ["a", "b"].map((revision) => handoverProcess("worker", { ...env, REVISION: revision }));
  for (const worker of workers) worker.start();

  const market = new Market({
    brokers: brokers.addresses,
    topic: TOPIC,
    partitions,
    deployment: DEPLOYMENT,
    instruments: Array.from({ length: 20 }, (_, i) => `INS${i}`),
    value: MESSAGE,
    perSecond,
  });
  await market.start();
  const { pauses, latencies } = market;
  await waitFor("decisions", () => market.decided === 20, 60_000);
  await sleep(moves > 0 ? WARM_UP_MS : SHORT_WARM_UP_MS);
  const conductor = new Conductor({ bus, deployment: DEPLOYMENT });
  await conductor.start();
  const places = await placesOf(bus, TOPIC);
  const move = async (i: number) => {
    await conductor.move([`INS${i % 20}`, `INS${(i + 7) % 20}`], i % 2 === 0 ? "b" : "a", places);
    await sleep(200);
  };
  for (let i = 0; i < Math.min(moves, WARM_UP_MOVES); i++) await move(i);
  for (const list of [pauses, latencies]) list.length = 0;
  const processes = [brokers.brokers[0]?.pid, ...workers.map(({ pid }) => pid), process.pid];
  const before = await Promise.all(processes.map(cpuOf));
  const began = performance.now();
  for (let i = 0; i < moves; i++) await move(i);
  if (moves === 0) await sleep(10_000);
  const passed = performance.now() - began;
  const after = await Promise.all(processes.map(cpuOf));
  const cpu = after.map((ms, i) => ((ms - (before[i] ?? 0)) / passed) * 100);
  await market.stop();
  await conductor.close();
  for (const worker of workers) await worker.end("SIGTERM");
  await Promise.race([bus.close(), sleep(3_000)]);
  await brokers.close();
  return { pauses, latencies, cpu };
}

const show = (values: readonly number[], p: number) =>
  values.length === 0
    ? "-"
    : percentile(
        values.toSorted((a, b) => a - b),
        p,
      ).toFixed(1);

/** Speed of one worker process, from a backlog: first to last decision, without its start. */
async function drain(kinds: readonly Kind[]): Promise<Map<Kind, number[]>> {
  const brokers = await startBrokers(1);
  const bus = new KafkaBus({ brokers: brokers.addresses, clientId: "bench" });
  const admin = await bus.admin();
  await admin.ensureTopics([{ name: TOPIC, partitions: PARTITIONS }]);
  const producer = await bus.producer();
  for (let sent = 0; sent < BACKLOG; sent += 10_000) {
    const part = Array.from({ length: 10_000 }, (_, n) => {
      const i = (sent + n) % 20;
      return producer.send({ topic: TOPIC, partition: i % PARTITIONS, key: `INS${i}`, value: MESSAGE });
    });
    await Promise.all(part);
  }
  await producer.close();
  const speeds = new Map<Kind, number[]>(kinds.map((kind) => [kind, []]));
  for (let run = 0; run < DRAINS; run++) {
    for (const kind of kinds) {
      const deployment = `${kind.replaceAll(/[ ,]+/g, "-")}-${run}`;
      // Everything is live with the owner's worker, and nothing with another's.
      await claim(bus, deployment, kind === "with it, all shadow" ? "other" : "a", TOPIC);
      const env = { KAFKA_BROKERS: brokers.addresses.join(), DEPLOYMENT: deployment, TOPIC, REVISION: "a" };
      const worker = handoverProcess(kind === "without the library" ? "plain" : "worker", env);
      worker.start();
      const done = async () => {
        const offsets = await admin.committed(groupOf(deployment, "a"), TOPIC);
        return [...offsets.values()].reduce((sum, offset) => sum + Number(offset), 0);
      };
      await waitFor("the first decisions", async () => (await done()) > BACKLOG / 20, 60_000);
      const [from, began] = [await done(), performance.now()];
      await waitFor("the last decisions", async () => (await done()) === BACKLOG, 120_000);
      speeds.get(kind)?.push((BACKLOG - from) / ((performance.now() - began) / 1000));
      await worker.end("SIGTERM");
    }
  }
  const verified = performance.now();
  const { counts, ok } = await verifyHistory(bus, "with-it-all-live-0");
  const seconds = (performance.now() - verified) / 1000;
  const read = counts.inputs + counts.live;
  console.log(
    `\nHistory checker: ${read.toLocaleString("en-US")} records read and checked in ${seconds.toFixed(1)} s, ${ok ? "everything holds" : "BROKEN"}`,
  );
  await Promise.race([bus.close(), sleep(3_000)]);
  await brokers.close();
  return speeds;
}

console.log(machine());
const rows: string[][] = [];
const highest = RATES.at(-1) ?? 0;
const settings = [
  ...RATES.map((perSecond) => ({ perSecond, partitions: PARTITIONS, positionMs: 250 })),
  // It is transactions that cost, and each partition has its own.
  { perSecond: highest, partitions: 1, positionMs: 250 },
  // A position with each transaction, as it was before ADR 23, to hold the others against.
  { perSecond: highest, partitions: PARTITIONS, positionMs: 0 },
];
for (const { perSecond, partitions, positionMs } of settings) {
  const { pauses, latencies, cpu } = await run({ perSecond, moves: MOVES, partitions, positionMs });
  const pause = [show(pauses, 0.5), show(pauses, 0.99), String(pauses.length)];
  rows.push([
    perSecond.toLocaleString("en-US"),
    String(partitions),
    positionMs === 0 ? "transaction" : `${positionMs} ms`,
    ...pause,
    show(latencies, 0.5),
    show(latencies, 0.95),
    show(latencies, 0.99),
    cpu.map((percent) => percent.toFixed(0)).join(", "),
  ]);
}
const figures = [
  "messages/s",
  "partitions",
  "position each",
  "pause p50 ms",
  "pause p99 ms",
  "pauses",
  "latency p50 ms",
  "p95",
  "p99",
];
table(
  `${MOVES} hand-overs of two instruments, ${WARM_UP_MS / 1_000} s after the broker's start`,
  [...figures, "% of a core: broker, workers, feeder and watcher"],
  rows,
);
if (process.env["ONLY"] === "pauses") process.exit(0);
const sizes: string[][] = [];
for (const maxWaitMs of [5, 10, 20, 40]) {
  const { latencies } = await run({ perSecond: 10_000, moves: 0, maxWaitMs });
  const each = Math.round((10_000 / PARTITIONS / 1_000) * maxWaitMs);
  sizes.push([
    String(maxWaitMs),
    String(each),
    show(latencies, 0.5),
    show(latencies, 0.95),
    show(latencies, 0.99),
  ]);
}
table(
  "Size of a transaction against latency, 10,000 messages/s, both revisions running",
  ["most wait ms", "messages, about", "latency p50 ms", "p95", "p99"],
  sizes,
);
const speeds = await drain(KINDS);
const plain = spread(speeds.get("without the library") ?? []).median;
table(
  `Messages/s of one worker process from a backlog of ${BACKLOG.toLocaleString("en-US")}, ${DRAINS} runs: median [least–most]`,
  ["worker", "messages/s", "against without"],
  KINDS.map((kind) => {
    const speed = spread(speeds.get(kind) ?? []);
    return [kind, showSpread(speed), (speed.median / plain).toFixed(2)];
  }),
);
process.exit(0);
