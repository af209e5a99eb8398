import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { Registry } from "prom-client";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import type { TransactionalProducer } from "#runtime/bus/port.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { Conductor } from "#runtime/handover/conductor.ts";
import { redisHaltCache } from "#runtime/handover/halt.ts";
import type { Unsafe } from "#runtime/handover/revision.ts";
import { groupOf } from "#runtime/handover/standing.ts";
import { echo, echoWorker, memoryHaltCache, placesOf } from "./handover.ts";

// One side of a hand-over in a process of its own, so that it can be killed and frozen:
//   worker      the echo model: every message yields a decision
//   plain       the same decisions in transactions with the offsets, without the hand-over
//   conductor   moves INSTRUMENTS to the revision TO, then ends with what it did as JSON
// FAULT=step:n:SIGNAL sends this process the signal when it comes to a step of the protocol for the n-th time.

const env = (name: string, otherwise?: string): string => {
  const value = process.env[name] ?? otherwise;
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
};
const bus = new KafkaBus({ brokers: env("KAFKA_BROKERS").split(","), clientId: "handover" });
const deployment = env("DEPLOYMENT");
// A ModelDeployment's pods are told of topics in the plural.
const topic = env("TOPIC", process.env["TOPICS"]);
const log = pino({ level: process.env["LOG_LEVEL"] ?? "info" }, pino.destination({ dest: 1, sync: true }));

const [faultStep = "", faultNth = "1", faultSignal = "SIGKILL"] = (process.env["FAULT"] ?? "").split(":");
let met = 0;
async function hook(step: string): Promise<void> {
  if (step !== faultStep || ++met !== Number(faultNth)) return;
  log.info({ step, signal: faultSignal }, "fault");
  process.kill(process.pid, faultSignal);
  // A signal takes a moment to arrive.
  await sleep(50);
}

function fatal(error: unknown): void {
  log.fatal({ err: error }, "fatal");
  process.exit(1);
}

if (process.argv[2] === "worker") {
  const redis = process.env["REDIS_URL"];
  const unsafe = process.env["UNSAFE"] as Unsafe | undefined;
  const worker = echoWorker({
    bus,
    deployment,
    revision: env("REVISION"),
    modelDigest: env("MODEL_DIGEST", "sha256:echo"),
    configuration: process.env["CONFIG_HASH"],
    topics: [topic],
    sessionTimeoutMs: Number(env("SESSION_TIMEOUT_MS", "6000")),
    fillRecords: Number(env("FILL_RECORDS", "5000")),
    ringBytes: Number(env("RING_BYTES", String(8 * 1024 * 1024))),
    positionMs: Number(env("POSITION_MS", "250")),
    releaseSoonMs: Number(env("RELEASE_SOON_MS", "50")),
    owedRecords: Number(env("OWED_RECORDS", "1000")),
    ...(process.env["MIN_BYTES"] === undefined ? {} : { minBytes: Number(process.env["MIN_BYTES"]) }),
    ...(process.env["MAX_WAIT_MS"] === undefined ? {} : { maxWaitMs: Number(process.env["MAX_WAIT_MS"]) }),
    haltCache: redis === undefined ? memoryHaltCache() : redisHaltCache(redis, deployment),
    registry: new Registry(),
    log,
    fatal,
    hook,
    ...(unsafe === undefined ? {} : { unsafe }),
  });
  await worker.start().catch(fatal);
  log.info("started");
  process.on("SIGTERM", () => {
    void worker
      .stop()
      .then(() => bus.close())
      .then(() => process.exit(0), fatal);
  });
} else if (process.argv[2] === "plain") {
  const producers = new Map<number, Promise<TransactionalProducer>>();
  const group = groupOf(deployment, env("REVISION"));
  await bus.consumer({
    group,
    topics: [topic],
    from: "earliest",
    onFatal: fatal,
    onBatch: async ({ partition, records }) => {
      const producer = producers.get(partition) ?? bus.transactionalProducer(`${group}.${partition}`);
      producers.set(partition, producer);
      const decisions = echo("plain", records).map(({ key, value, headers }) => ({
        topic: topics.signals(deployment),
        ...(key === undefined ? {} : { key }),
        value,
        headers,
      }));
      const offset = (records.at(-1)?.offset ?? 0n) + 1n;
      const offsets = { group, positions: [{ topic, partition, offset }] };
      await (await producer).commit({ records: decisions, offsets });
    },
  });
  process.on("SIGTERM", () => void bus.close().then(() => process.exit(0), fatal));
} else {
  const conductor = new Conductor({
    bus,
    deployment,
    deadlines: {
      releaseMs: Number(env("RELEASE_MS", "15000")),
      takeMs: Number(env("TAKE_MS", "30000")),
    },
    hook,
    onEvent: (event) => log.info({ event: { ...event, cut: undefined } }, "conductor"),
  });
  await conductor.start().catch(fatal);
  const places = await placesOf(bus, topic);
  const epochs = await conductor
    .move(env("INSTRUMENTS").split(","), env("TO"), places)
    .catch((error: unknown) => {
      fatal(error);
      return [];
    });
  log.info({ epochs }, "moved");
  await conductor.close();
  await bus.close();
}
