import { pino } from "pino";
import { vi } from "vitest";
import type { Api, Resource } from "#operators/controller-kit/api.ts";
import { ApiError } from "#operators/controller-kit/errors.ts";
import { DEPLOYMENTS, type Deployment, LABELS } from "#operators/model-deployment/adapters/deployment.ts";
import { ownersOf } from "#operators/model-deployment/adapters/streams.ts";
import { type CustomObject, MODEL_DEPLOYMENTS } from "#operators/model-deployment/adapters/view.ts";
import { COMMAND_ANNOTATION, resourceOf } from "#operators/model-deployment/api/crd.ts";
import type { ModelDeploymentStatus } from "#operators/model-deployment/api/status.ts";
import type { Verb } from "#operators/model-deployment/core/observed.ts";
import { Operator } from "#operators/model-deployment/operator.ts";
import { MemoryBroker } from "#runtime/bus/memory/broker.ts";
import { MemoryBus } from "#runtime/bus/memory/index.ts";
import type { Bus } from "#runtime/bus/port.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { verifyHistory } from "#runtime/handover/history/read.ts";
import { LedgerFollower, parseLedger } from "#runtime/handover/ledger.ts";
import { Crash, mortalApi, mortalBus } from "./crash.ts";
import { Crew } from "./crew.ts";
import { type Draft, specOf } from "./deployment-world.ts";
import { MemoryCluster } from "./memory-cluster.ts";
import { SimulatedPods } from "./simulated-pods.ts";
import { pass } from "./virtual-time.ts";

// The whole operator, with its reflectors, queue, conductors, and workers that decide, on an API server and a bus in memory
// and in a time that stands still: what takes minutes passes in a blink, and can be made to fail at any write.

const NAMESPACE = "trading";
const NAME = "momentum";
const TOPIC = "md.crypto.main";
const PLACES = [{ topic: TOPIC, partition: 0 }];
const ANALYSIS_TEMPLATES = resourceOf("AnalysisTemplate");

const EVENTS: Resource = { group: "", version: "v1", plural: "events", kind: "Event" };

/** How long a commit takes. */
const LEDGER_MS = 50;

/**
 * What goes wrong with the next write. Overtaken: others scale just before one to a Deployment, and its answer is there before the
 * watch tells of either.
 */
export type WireFault = "crash-before" | "crash-after" | "lost-before" | "lost-after" | "twice" | "overtaken";

type Watched = CustomObject & { readonly status?: ModelDeploymentStatus };

export class Simulated {
  readonly cluster = new MemoryCluster();
  readonly pods: SimulatedPods;
  /** What Prometheus says; undefined for no series. */
  value: number | undefined = 0;
  /** What the API server says to a status that is written, where it refuses it. */
  refusal: (status: ModelDeploymentStatus) => ApiError | undefined = () => undefined;
  /** Sentences about what must never be. */
  readonly broken: string[] = [];
  /** Writes of all operators. */
  writes = 0;
  readonly #broker = new MemoryBroker();
  readonly #bus = new MemoryBus(this.#broker);
  readonly #user = this.cluster.api("user");
  readonly #crew = new Crew(this.#broker, NAME, TOPIC);
  #ledger: LedgerFollower | undefined;
  #crash = new Crash();
  #operator: Operator | undefined;
  #starting: Promise<void> = Promise.resolve();
  #epoch = 0;
  #fault: WireFault | undefined;
  #staleUntil = 0;
  #commands = 0;
  #sent = 0;
  #feed: NodeJS.Timeout | undefined;

  constructor() {
    this.pods = new SimulatedPods(this.cluster, (deployment, isGone) =>
      this.#crew.follow(deployment, isGone),
    );
  }

  /** The first revision is stable. */
  async begin(spec: Draft): Promise<void> {
    vi.stubGlobal("fetch", async () => {
      const result = this.value === undefined ? [] : [{ value: [Date.now() / 1_000, String(this.value)] }];
      return new Response(JSON.stringify({ status: "success", data: { resultType: "vector", result } }));
    });
    await (await this.#bus.admin()).ensureTopics([{ name: TOPIC, partitions: 1 }]);
    const producer = await this.#bus.producer();
    this.#feed = setInterval(() => {
      const key = ["BTCUSDT", "ETHUSDT", "XRPUSDT", "UNIUSDT"][this.#sent % 4] as string;
      void producer.send({ topic: TOPIC, partition: 0, key, value: Buffer.from(String(this.#sent)) });
      this.#sent += 1;
    }, 100);
    await this.pods.start();
    await this.#user.create(ANALYSIS_TEMPLATES, {
      metadata: { name: "errors", namespace: NAMESPACE },
      spec: {
        metrics: [
          {
            name: "errors",
            interval: "1s",
            threshold: { max: "0.5" },
            provider: { prometheus: { query: "x" } },
          },
        ],
      },
    } as CustomObject);
    await this.#user.create(MODEL_DEPLOYMENTS, {
      metadata: { name: NAME, namespace: NAMESPACE },
      spec,
    } as CustomObject);
    this.#takeOver();
    await pass(10_000);
    this.#ledger = new LedgerFollower({
      bus: this.#bus,
      deployment: NAME,
      onFatal: (error) => this.#break(error),
    });
    await this.#ledger.start();
    await pass(500);
  }

  async end(): Promise<void> {
    clearInterval(this.#feed);
    const stopping = (async () => {
      await this.#starting.catch(() => {});
      await this.#operator?.stop();
      await this.pods.stop();
      await this.#crew.close();
      await this.#ledger?.close();
      await this.#bus.close();
    })();
    await pass(10_000);
    await stopping;
    vi.unstubAllGlobals();
  }

  get object(): Watched | undefined {
    return this.#objects()[0];
  }

  get status(): ModelDeploymentStatus {
    return this.object?.status ?? {};
  }

  #objects(): readonly Watched[] {
    return this.cluster.read(MODEL_DEPLOYMENTS) as unknown as readonly Watched[];
  }

  /** Reasons of the events that have been recorded. */
  events(): readonly string[] {
    return this.cluster.read(EVENTS).map((event) => String(event["reason"]));
  }

  deployments(): readonly Deployment[] {
    return this.cluster.read(DEPLOYMENTS) as unknown as readonly Deployment[];
  }

  owners(): ReadonlyMap<string, string | undefined> {
    return this.#ledger === undefined ? new Map() : ownersOf(this.#ledger.state, PLACES);
  }

  async update(spec: Draft): Promise<void> {
    await this.#user.merge(MODEL_DEPLOYMENTS, NAMESPACE, NAME, { spec });
  }

  async delete(): Promise<void> {
    await this.#user.delete(MODEL_DEPLOYMENTS, NAMESPACE, NAME);
  }

  async tell(verb: Verb, revision: string): Promise<void> {
    this.#commands += 1;
    const command = JSON.stringify({ id: `c${this.#commands}`, verb, revision });
    const metadata = { annotations: { [COMMAND_ANNOTATION]: command } };
    await this.#user.merge(MODEL_DEPLOYMENTS, NAMESPACE, NAME, { metadata });
  }

  /** Somebody else writes to what is the operator's. */
  async meddle(replicas: number | undefined): Promise<void> {
    for (const { metadata } of this.deployments()) {
      const patch =
        replicas === undefined
          ? { metadata: { annotations: { note: String(Date.now()) } } }
          : { spec: { replicas } };
      await this.#user.merge(DEPLOYMENTS, NAMESPACE, metadata.name, patch);
    }
  }

  /** The next write goes wrong so. */
  fail(fault: WireFault): void {
    this.#fault = fault;
  }

  /** Watches tell of nothing for so long, and of all of it afterwards. */
  stale(ms: number): void {
    this.#staleUntil = Date.now() + ms;
  }

  /** Messages were decided once each, by who should. */
  async verify(): Promise<void> {
    clearInterval(this.#feed);
    await pass(3_000);
    const verdict = verifyHistory(this.#bus, NAME);
    await pass(3_000);
    const { violations, counts } = await verdict;
    for (const violation of violations) this.#break(JSON.stringify(violation));
    if (counts.inputs !== this.#sent) this.#break(`${counts.inputs} messages of ${this.#sent}`);
    if (counts.pending > 0) this.#break(`${counts.pending} messages have no outcome`);
  }

  #break(what: unknown): void {
    this.broken.push(String(what));
  }

  #takeOver(): void {
    const crash = new Crash();
    this.#crash = crash;
    this.#epoch += 1;
    const operator = new Operator({
      api: mortalApi(this.#wire(), crash),
      bus: mortalBus(this.#tap(new MemoryBus(this.#broker)), crash),
      prometheus: "http://prometheus",
      topicReplicas: 1,
      namespace: NAMESPACE,
      log: pino({ level: process.env["LOG_LEVEL"] ?? "silent" }),
      epoch: this.#epoch,
    });
    this.#operator = operator;
    this.#starting = operator.start();
    this.#starting.catch(() => {});
    void crash.died.then(async () => {
      await operator.stop();
      this.#takeOver();
    });
  }

  /** The API with what is to go wrong, and with a look at what must not be written. */
  #wire(): Api {
    const api = this.cluster.api("baton");
    const write = async <T>(resource: Resource, work: () => Promise<T>, check: () => void): Promise<T> => {
      this.writes += 1;
      check();
      if (this.#fault === "overtaken" && resource.plural === DEPLOYMENTS.plural) await this.#overtake();
      return this.#faulty(work, true);
    };
    const cluster = this;
    return {
      ...api,
      apply: (resource, object, subresource) =>
        write(
          resource,
          async () => {
            const { status = {} } = object as unknown as Watched;
            const refused = subresource === "status" ? this.refusal(status) : undefined;
            if (refused !== undefined) throw refused;
            return api.apply(resource, object, subresource);
          },
          () => this.#look(resource, object as unknown as Deployment & Watched, subresource),
        ),
      merge: (resource, namespace, name, patch) =>
        write(
          resource,
          () => api.merge(resource, namespace, name, patch),
          () => this.#lookAtScale(name, (patch as Deployment).spec?.replicas),
        ),
      delete: (resource, namespace, name, uid) =>
        write(
          resource,
          () => api.delete(resource, namespace, name, uid),
          () => this.#lookAtScale(name, 0),
        ),
      async *watch(...args: Parameters<Api["watch"]>) {
        for await (const line of api.watch(...args)) {
          while (Date.now() < cluster.#staleUntil) await new Promise((resolve) => setTimeout(resolve, 100));
          yield line;
        }
      },
    };
  }

  async #overtake(): Promise<void> {
    this.#fault = undefined;
    this.stale(500);
    await this.meddle(0);
  }

  async #faulty<T>(work: () => Promise<T>, canRepeat: boolean): Promise<T> {
    const fault = this.#fault;
    if (fault !== "overtaken") this.#fault = undefined;
    const lost = new ApiError("Transient", 0, "no answer, says the test");
    if (fault === "crash-before") this.#crash.kill();
    if (fault === "crash-before" || fault === "lost-before") throw lost;
    const answer = await work();
    if (fault === "twice" && canRepeat) return work();
    if (fault === "crash-after") this.#crash.kill();
    if (fault === "crash-after" || fault === "lost-after") throw lost;
    return answer;
  }

  /** The bus with what is to go wrong, and with a look at the ledger. */
  #tap(bus: Bus): Bus {
    return {
      producer: (options) => bus.producer(options),
      consumer: (options) => bus.consumer(options),
      admin: () => bus.admin(),
      ping: () => bus.ping(),
      close: () => bus.close(),
      transactionalProducer: async (id, options) => {
        const producer = await bus.transactionalProducer(id, options);
        return {
          id: producer.id,
          settled: (...args) => producer.settled(...args),
          close: () => producer.close(),
          commit: async (transaction) => {
            this.writes += 1;
            for (const record of transaction.records)
              if (record.topic === topics.ledger(NAME)) this.#lookAtLedger(record as never);
            // Slower than the API server: what does not wait for a hand-over is seen.
            await new Promise((resolve) => setTimeout(resolve, LEDGER_MS));
            return this.#faulty(() => producer.commit(transaction), false);
          },
        };
      },
    };
  }

  /** The candidate gains nothing after it was decided that it goes. */
  #lookAtLedger(record: Parameters<typeof parseLedger>[0]): void {
    const entry = parseLedger(record);
    const { decision } = this.status;
    if (entry.type !== "request" || decision === undefined || decision.kind === "Promote") return;
    if (entry.to === decision.revision)
      this.#break(`${decision.revision} gets ${entry.instruments.join()} after ${decision.kind}`);
  }

  #look(resource: Resource, object: Deployment & Watched, subresource: string | undefined): void {
    if (resource.plural === "deployments") this.#lookAtScale(object.metadata.name, object.spec.replicas);
    if (resource.plural !== "modeldeployments" || subresource !== "status") return;
    const { weight = 0, assignments = [], stable, candidate } = object.status ?? {};
    if (weight < 0 || weight > 100) this.#break(`a weight of ${weight}`);
    const seen = assignments.flatMap(({ instruments }) => instruments);
    if (new Set(seen).size !== seen.length) this.#break(`assigned twice: ${seen.join()}`);
    if (stable !== undefined && stable.revision === candidate?.revision)
      this.#break(`${stable.revision} is stable and candidate`);
  }

  /** Nobody is taken down who decides on anything. */
  #lookAtScale(name: string, replicas: number | undefined): void {
    if (replicas !== 0) return;
    const revision = this.deployments().find(({ metadata }) => metadata.name === name)?.metadata.labels?.[
      LABELS.revision
    ];
    const owned = [...this.owners()].filter(([, owner]) => owner === revision).map(([key]) => key);
    // One whose pods have gone decides on nothing, whatever it owns.
    if (!this.pods.isUp(revision ?? "")) return;
    if (revision !== undefined && owned.length > 0) this.#break(`${revision} ends and owns ${owned.join()}`);
  }
}

/** A spec of the simulation, whose steps take seconds. */
export function simulatedSpec(version: number, change: (draft: Draft) => void): Draft {
  return specOf(`${version}.0.0`, (draft) => {
    draft["progressDeadlineSeconds"] = 60;
    draft["analysis"] = { templates: [{ name: "errors" }], startingStep: 0 };
    change(draft);
  });
}
