import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { KubeApi } from "#operators/controller-kit/api.ts";
import { type CustomObject, MODEL_DEPLOYMENTS } from "#operators/model-deployment/adapters/cluster.ts";
import type { ModelDeploymentStatus } from "#operators/model-deployment/api/status.ts";
import { Operator } from "#operators/model-deployment/operator.ts";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { verifyHistory } from "#runtime/handover/history/read.ts";
import { baton as runBaton } from "#tests/support/baton.ts";
import { create } from "#tests/support/custom-resources.ts";
import { PodBench } from "#tests/support/kubernetes.ts";
import { waitFor } from "#tests/support/wait.ts";

// The operator against the real API server, Kafka and pods: a release comes in and is promoted, a harmful one is rolled
// back, a person has the last word, and the operator may be made anew in the middle of it.

const cluster = inject("cluster");
const bench = new PodBench(cluster);
const brokers = `127.0.0.1:${cluster.ports.kafka}`;
const bus = new KafkaBus({ brokers: [brokers], clientId: "test" });
const NAME = `echo-${randomUUID().slice(0, 6)}`;
const TOPIC = `md.crypto.${NAME}`;
const INSTRUMENTS = ["BTCUSDT", "ETHUSDT", "XRPUSDT", "UNIUSDT"] as const;
const log = pino({ level: process.env["LOG_LEVEL"] ?? "silent" });

let api: KubeApi;
let operator: Operator;
let errorRate = 0;
const monitor = createServer((_, answer) => answer.end(JSON.stringify({ data: { errors: errorRate } })));
let stopStream: () => Promise<number>;

async function startOperator(): Promise<Operator> {
  const prometheus = `http://127.0.0.1:${cluster.ports.prometheus}`;
  const started = new Operator({ api, bus, prometheus, topicReplicas: 1, log });
  await started.start();
  return started;
}

beforeAll(async () => {
  await bench.open();
  api = new KubeApi(bench.config, { fieldManager: "baton" });
  await (await bus.admin()).ensureTopics([{ name: TOPIC, partitions: 2 }]);
  await new Promise<void>((resolve) => monitor.listen(0, "127.0.0.1", resolve));
  const address = monitor.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const template = {
    metrics: [
      {
        name: "rate",
        interval: "1s",
        threshold: { max: "0.01" },
        provider: { web: { url: `http://127.0.0.1:${port}/{{revision}}`, jsonPath: "data.errors" } },
      },
    ],
  };
  expect(
    (await create(bench.config, bench.namespace, "AnalysisTemplate", "errors", template)).refusal,
  ).toBeUndefined();
  const producer = await bus.producer();
  let running = true;
  let sent = 0;
  const loop = (async () => {
    for (; running; sent++) {
      const key = INSTRUMENTS[sent % INSTRUMENTS.length] as string;
      void producer.send({ topic: TOPIC, partition: sent % 2, key, value: Buffer.from(String(sent)) });
      await sleep(10);
    }
  })();
  stopStream = async () => {
    running = false;
    await loop;
    await producer.close();
    return sent;
  };
  operator = await startOperator();
});
afterAll(async () => {
  await operator.stop();
  monitor.close();
  api.close();
  await bench.close();
  await bus.close();
});

const specOf = (version: string, pause = "3s") => ({
  model: {
    name: "echo",
    version,
    uri: `https://models.example/echo/${version}`,
    digest: `sha256:${Buffer.from(version).toString("hex").padEnd(64, "0")}`,
  },
  replicas: 1,
  template: {
    spec: {
      terminationGracePeriodSeconds: 3,
      containers: [{ name: "main", image: "test/echo:1", env: [{ name: "KAFKA_BROKERS", value: brokers }] }],
    },
  },
  stream: { topics: [TOPIC], releaseSeconds: 5, takeSeconds: 10 },
  instruments: INSTRUMENTS.map((symbol, i) => ({
    symbol,
    tier: (["high", "high", "medium", "low"] as const)[i],
  })),
  strategy: {
    canary: {
      steps: [
        { setInstruments: { symbols: ["BTCUSDT"] } },
        { pause: { duration: pause } },
        { setInstruments: { tier: "low" } },
        { setInstruments: { all: true } },
      ],
    },
  },
  analysis: { templates: [{ name: "errors" }] },
});

const read = () =>
  api.get<CustomObject & { readonly status?: ModelDeploymentStatus }>(
    MODEL_DEPLOYMENTS,
    bench.namespace,
    NAME,
  );
const until = async (what: string, check: (status: ModelDeploymentStatus) => unknown, timeoutMs = 40_000) => {
  let last: ModelDeploymentStatus = {};
  return waitFor(
    what,
    async () => {
      last = (await read()).status ?? {};
      return check(last) ? last : undefined;
    },
    timeoutMs,
  ).catch((error: unknown) => {
    throw new Error(`${(error as Error).message}; status is ${JSON.stringify(last)}`);
  });
};
const release = (version: string, pause?: string) => {
  const { model, strategy } = specOf(version, pause);
  return api.merge(MODEL_DEPLOYMENTS, bench.namespace, NAME, { spec: { model, strategy } });
};
const baton = (...args: readonly string[]) =>
  runBaton({ KUBECONFIG: join(cluster.folder, "pki", "admin.kubeconfig") }, ...args, "-n", bench.namespace);
/** BTCUSDT has been handed over, and the pause has begun. */
const atFirst = ({ weight, currentStepIndex, phase }: ModelDeploymentStatus) =>
  weight === 25 && currentStepIndex === 1 && phase === "Paused";
const ownersOf = ({ assignments = [] }: ModelDeploymentStatus) => assignments.map(({ revision }) => revision);

describe("the operator", { timeout: 120_000 }, () => {
  it("makes the first revision and gives it everything", async () => {
    const { refusal } = await create(bench.config, bench.namespace, "ModelDeployment", NAME, specOf("1.0.0"));
    expect(refusal).toBeUndefined();
    const status = await until("Healthy", ({ phase }) => phase === "Healthy");
    expect(status.stable).toMatchObject({ version: "1.0.0", available: 1, coherent: true });
    expect(ownersOf(status)).toEqual([status.stable?.revision]);
  });

  it("brings a good release in through its steps and promotes it", async () => {
    const old = (await read()).status?.stable?.revision;
    await release("2.0.0");
    const canary = await until("BTCUSDT at the candidate", atFirst);
    expect(canary).toMatchObject({ phase: "Paused", candidate: { version: "2.0.0" }, currentStepIndex: 1 });
    expect(canary.assignments).toContainEqual(
      expect.objectContaining({ revision: canary.candidate?.revision, instruments: ["BTCUSDT"] }),
    );
    const status = await until(
      "2.0.0 to be stable",
      ({ stable, phase }) => stable?.version === "2.0.0" && phase === "Healthy",
    );
    expect(ownersOf(status)).toEqual([status.stable?.revision]);
    expect(status.history?.[0]).toMatchObject({ completionStatus: "Promoted", version: "2.0.0" });
    await waitFor("the old pods to end", async () => {
      const { items } = await bench.core.listNamespacedPod({ namespace: bench.namespace });
      return items.every(({ metadata }) => metadata?.labels?.["baton.dev/revision"] !== old);
    });
  });

  it("rolls a harmful one back by itself, and does not try it again", async () => {
    await release("3.0.0");
    await until("BTCUSDT at the candidate", atFirst);
    const breach = Date.now();
    errorRate = 0.5;
    const status = await until(
      "everything back",
      ({ candidate, assignments }) => candidate === undefined && assignments?.length === 1,
    );
    expect(Date.now() - breach).toBeLessThan(8_000);
    errorRate = 0;
    expect(status.history?.[0]).toMatchObject({
      completionStatus: "RolledBack",
      reason: "AnalysisFailed",
      version: "3.0.0",
    });
    expect(status).toMatchObject({ stable: { version: "2.0.0" } });
    expect(ownersOf(status)).toEqual([status.stable?.revision]);
    await until("Degraded", ({ phase }) => phase === "Degraded");
    // An event follows what it is about.
    await waitFor("the events", async () => {
      const { items } = await bench.core.listNamespacedEvent({ namespace: bench.namespace });
      const own = items
        .filter(({ involvedObject }) => involvedObject.name === NAME)
        .map(({ reason }) => reason);
      return ["Started", "Promoted", "AnalysisFailed", "RolledBack"].every((reason) => own.includes(reason));
    });
  });

  it("goes on where another operator has left off, and writes nothing once it is settled", async () => {
    await release("4.0.0");
    await until("BTCUSDT at the candidate", atFirst);
    await operator.stop();
    operator = await startOperator();
    await until(
      "4.0.0 to be stable",
      ({ stable, phase }) => stable?.version === "4.0.0" && phase === "Healthy",
    );
    // The old pods end.
    await sleep(3_000);
    const before = (await read()).metadata.resourceVersion;
    await sleep(4_000);
    expect((await read()).metadata.resourceVersion).toBe(before);
  });

  it("obeys pause, resume and abort", async () => {
    await release("5.0.0", "60s");
    await until("BTCUSDT at the candidate", atFirst);
    expect(await baton("pause", NAME)).toMatchObject({ code: 0 });
    const paused = await until("the hold", ({ message }) => message?.includes("paused by a person"));
    expect(paused).toMatchObject({ phase: "Paused", currentStepIndex: 1 });
    const shown = await baton("get", NAME);
    expect(shown.output).toMatch(/candidate +r-\w+ +5\.0\.0 +1\/1 +BTCUSDT \(25 %\)/);
    expect(shown.output).toContain("background/errors/rate  Running");
    const aborted = await baton("abort", NAME);
    expect(aborted).toMatchObject({ code: 0 });
    expect(aborted.output).toMatch(/abort r-\w+: done/);
    const status = await until(
      "everything back",
      ({ candidate, assignments }) => candidate === undefined && assignments?.length === 1,
    );
    expect(status.history?.[0]).toMatchObject({ completionStatus: "Aborted", version: "5.0.0" });
    expect(status.stable?.version).toBe("4.0.0");
    const late = await baton("pause", NAME, "--json");
    expect(late).toMatchObject({ code: 1 });
    expect(late.output).toContain("refused: nothing is being released");
    expect(await baton("get", "nobody")).toMatchObject({ code: 1 });
  });

  it("lost, doubled and misplaced nothing on the way", async () => {
    const sent = await stopStream();
    const stable = (await read()).status?.stable?.revision ?? "";
    const admin = await bus.admin();
    await waitFor("the last decision", async () => {
      const ends = await admin.offsets(TOPIC);
      const committed = await admin.committed(`${NAME}.${stable}`, TOPIC);
      return [...ends].every(([partition, { latest }]) => committed.get(partition) === latest);
    });
    const { violations, counts } = await verifyHistory(bus, NAME);
    expect(violations).toEqual([]);
    expect(counts).toMatchObject({ inputs: sent, pending: 0 });
    // Until the first revision had been given everything nobody decided.
    expect(counts.live + counts.unowned).toBe(sent);
  });
});
