import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createServer, type Server } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { KubeApi } from "#operators/controller-kit/api.ts";
import { Reflector } from "#operators/controller-kit/reflector.ts";
import { type CustomObject, MODEL_DEPLOYMENTS } from "#operators/model-deployment/adapters/view.ts";
import type { ModelDeploymentStatus } from "#operators/model-deployment/api/status.ts";
import { Operator, type OperatorOptions } from "#operators/model-deployment/operator.ts";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import type { Bus, Producer } from "#runtime/bus/port.ts";
import { verifyHistory } from "#runtime/handover/history/read.ts";
import { type BatonRun, baton } from "./baton.ts";
import { create } from "./custom-resources.ts";
import type { TestCluster } from "./fresh-cluster.ts";
import { PodBench } from "./kubernetes.ts";
import { waitFor } from "./wait.ts";

export type Status = ModelDeploymentStatus;
// biome-ignore lint/suspicious/noExplicitAny: any field of a spec may be anything, until the API server has seen it.
export type Draft = Record<string, any>;

export const INSTRUMENTS = ["BTCUSDT", "ETHUSDT", "XRPUSDT", "UNIUSDT"] as const;
const TIERS = ["high", "high", "medium", "low"] as const;

/** Pods of no stream: a shell that waits. */
export const SHELL = { name: "main", image: "test/shell:1", command: ["sh", "-c"], args: ["sleep 600"] };

type Watched = CustomObject & { readonly status?: Status };

/** One ModelDeployment in a namespace of its own, with an operator in this process, a stream, and measurements to set. */
export class OperatorBench {
  readonly pods: PodBench;
  readonly bus: Bus;
  readonly name = `echo-${randomUUID().slice(0, 6)}`;
  readonly topic = `md.crypto.${this.name}`;
  /** What the web provider of the template `errors` yields; undefined for an answer without a number. */
  errors: number | undefined = 0;
  readonly #cluster: TestCluster;
  readonly #broker: string;
  readonly #monitor: Server;
  readonly #options: Partial<OperatorOptions>;
  #api: KubeApi | undefined;
  #watch: Reflector<Watched> | undefined;
  /** Every status of the object that may still be waited for, so that a short one is not missed between two looks. */
  #seen: Status[] = [];
  #operator: Operator | undefined;
  #stream: { readonly producer: Producer; readonly stop: () => Promise<void> } | undefined;
  #sent = 0;

  constructor(cluster: TestCluster, options: Partial<OperatorOptions> & { readonly broker?: string } = {}) {
    const { broker = `127.0.0.1:${cluster.ports.kafka}`, bus, ...rest } = options;
    this.#cluster = cluster;
    this.#broker = broker;
    this.#options = rest;
    this.pods = new PodBench(cluster);
    this.bus = bus ?? new KafkaBus({ brokers: [broker], clientId: "test" });
    this.#monitor = createServer((_, answer) =>
      answer.end(JSON.stringify({ data: this.errors === undefined ? {} : { errors: this.errors } })),
    );
  }

  get namespace(): string {
    return this.pods.namespace;
  }

  get api(): KubeApi {
    if (this.#api === undefined) throw new Error("not open");
    return this.#api;
  }

  async open(): Promise<this> {
    await this.pods.open();
    this.#api = new KubeApi(this.pods.config, { fieldManager: "baton" });
    this.#watch = new Reflector<Watched>({
      api: this.#api,
      resource: MODEL_DEPLOYMENTS,
      namespace: this.namespace,
      onChange: ({ metadata, status = {} }) => {
        if (metadata.name === this.name) this.#seen.push(status);
      },
      onError: () => {},
    });
    await this.#watch.start();
    await (await this.bus.admin()).ensureTopics([{ name: this.topic, partitions: 2 }]);
    await new Promise<void>((resolve) => this.#monitor.listen(0, "127.0.0.1", resolve));
    await this.template("errors", {
      metrics: [{ name: "rate", interval: "1s", threshold: { max: "0.01" }, provider: { web: this.web() } }],
    });
    await this.startOperator();
    return this;
  }

  /** Where the whole cluster goes afterwards its namespace may stay: to delete one is work for the API server. */
  async close(namespace: "delete" | "keep" = "delete"): Promise<void> {
    await this.stopStream();
    await this.stopOperator();
    this.#monitor.close();
    this.#monitor.closeAllConnections();
    await this.#watch?.stop();
    this.#api?.close();
    if (namespace === "delete") await this.pods.close();
    await this.bus.close();
  }

  /** The web provider that this bench answers. */
  web(): Draft {
    const address = this.#monitor.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    return { url: `http://127.0.0.1:${port}/{{revision}}`, jsonPath: "data.errors" };
  }

  async template(name: string, spec: Draft): Promise<void> {
    const { refusal } = await create(this.pods.config, this.namespace, "AnalysisTemplate", name, spec);
    assert.equal(refusal, undefined);
  }

  async startOperator(options: Partial<OperatorOptions> = {}): Promise<Operator> {
    const operator = new Operator({
      api: this.api,
      bus: this.bus,
      prometheus: `http://127.0.0.1:${this.#cluster.ports.prometheus}`,
      topicReplicas: 1,
      // Other tests have operators of their own on the same cluster.
      namespace: this.namespace,
      log: pino({ level: process.env["LOG_LEVEL"] ?? "silent" }),
      ...this.#options,
      ...options,
    });
    this.#operator = operator;
    await operator.start();
    return operator;
  }

  async stopOperator(): Promise<void> {
    await this.#operator?.stop();
    this.#operator = undefined;
  }

  /** Sends messages, a hundred a second where nothing else is said, until told to stop. */
  async startStream(everyMs = 10): Promise<void> {
    const producer = await this.bus.producer();
    let running = true;
    const loop = (async () => {
      for (; running; this.#sent++) {
        const i = this.#sent;
        const key = INSTRUMENTS[i % INSTRUMENTS.length] as string;
        const record = { topic: this.topic, partition: i % 2, key, value: Buffer.from(String(i)) };
        producer.send(record).catch(() => {});
        await sleep(everyMs);
      }
    })();
    const stop = async () => {
      running = false;
      await loop;
      // It waits for ever for a broker that a test has killed.
      await Promise.race([producer.close(), sleep(10_000)]);
    };
    this.#stream = { producer, stop };
  }

  async stopStream(): Promise<number> {
    await this.#stream?.stop();
    this.#stream = undefined;
    return this.#sent;
  }

  /** A spec whose pods decide on the stream. */
  spec(version: string, change: (spec: Draft) => void = () => {}): Draft {
    const spec: Draft = {
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
          containers: [
            { name: "main", image: "test/echo:1", env: [{ name: "KAFKA_BROKERS", value: this.#broker }] },
          ],
        },
      },
      stream: { topics: [this.topic], releaseSeconds: 5, takeSeconds: 10 },
      instruments: INSTRUMENTS.map((symbol, i) => ({ symbol, tier: TIERS[i] })),
      strategy: {
        canary: {
          steps: [
            { setInstruments: { symbols: ["BTCUSDT"] } },
            { pause: { duration: "2s" } },
            { setInstruments: { tier: "low" } },
            { setInstruments: { all: true } },
          ],
        },
      },
      analysis: { templates: [{ name: "errors" }] },
    };
    change(spec);
    return spec;
  }

  /** A spec of pods that have nothing to do with a stream. */
  plainSpec(version: string, change: (spec: Draft) => void = () => {}): Draft {
    return this.spec(version, (spec) => {
      delete spec["stream"];
      delete spec["instruments"];
      spec["template"].spec.containers = [SHELL];
      spec["template"].spec.terminationGracePeriodSeconds = 1;
      spec["strategy"] = { canary: { steps: [{ setWeight: 50 }, { pause: { duration: "2s" } }] } };
      change(spec);
    });
  }

  /** Makes the object; resolves with the API server's refusal, if it has one. */
  async create(spec: Draft, name = this.name): Promise<string | undefined> {
    return (await create(this.pods.config, this.namespace, "ModelDeployment", name, spec)).refusal;
  }

  /** Changes the spec as somebody would in Git. */
  async update(spec: Draft): Promise<Watched> {
    const object = await this.api.merge<Watched>(MODEL_DEPLOYMENTS, this.namespace, this.name, { spec });
    this.#seen = this.#seen.slice(-1);
    return object;
  }

  /** As the API server has it now. */
  async status(name = this.name): Promise<Status> {
    return (await this.api.get<Watched>(MODEL_DEPLOYMENTS, this.namespace, name)).status ?? {};
  }

  /** The object as the watch tells of it; undefined when it is not there. */
  latest(): Status | undefined {
    const [object] = this.#watch?.of(`${this.namespace}/${this.name}`) ?? [];
    return object === undefined ? undefined : (object.status ?? {});
  }

  /** Waits for a status; all since the one that was waited for last count, however short they were. */
  until(what: string, check: (status: Status) => unknown, timeoutMs = 90_000): Promise<Status> {
    return waitFor(
      what,
      async () => {
        for (;;) {
          const [status] = this.#seen;
          if (status !== undefined && (await check(status))) return status;
          if (this.#seen.length <= 1) return undefined;
          this.#seen.shift();
        }
      },
      timeoutMs,
    ).catch((error: unknown) => {
      throw new Error(`${(error as Error).message}; status is ${JSON.stringify(this.latest())}`);
    });
  }

  /** Waits until a version is stable and nothing is being released. */
  stable(version: string, phase = "Healthy"): Promise<Status> {
    return this.until(
      `${version} to be stable`,
      (status) =>
        status.stable?.version === version && status.phase === phase && status.candidate === undefined,
    );
  }

  /** Waits until everything is back at stable. */
  back(): Promise<Status> {
    return this.until(
      "everything back",
      ({ candidate, assignments }) => candidate === undefined && assignments?.length === 1,
    );
  }

  baton(...args: readonly string[]): Promise<BatonRun> {
    const env = { KUBECONFIG: join(this.#cluster.folder, "pki", "admin.kubeconfig") };
    return baton(env, ...args, "-n", this.namespace);
  }

  async events(): Promise<readonly string[]> {
    const { items } = await this.pods.core.listNamespacedEvent({ namespace: this.namespace });
    return items
      .filter(({ involvedObject }) => involvedObject.name === this.name)
      .map(({ reason }) => reason ?? "");
  }

  /** Ends the stream, and reads what the topics say of all that has happened. */
  async verify(): Promise<Awaited<ReturnType<typeof verifyHistory>>["counts"]> {
    const sent = await this.stopStream();
    const stable = (await this.status()).stable?.revision ?? "";
    const admin = await this.bus.admin();
    await waitFor("the last decision", async () => {
      const ends = await admin.offsets(this.topic);
      const committed = await admin.committed(`${this.name}.${stable}`, this.topic);
      return [...ends].every(([partition, { latest }]) => committed.get(partition) === latest);
    });
    const { violations, counts } = await verifyHistory(this.bus, this.name);
    assert.deepEqual(violations, []);
    assert.equal(counts.inputs, sent);
    assert.equal(counts.pending, 0);
    // Until the first revision had been given everything nobody decided.
    assert.equal(counts.live + counts.unowned, sent);
    return counts;
  }
}
