import { ANNOTATIONS, type Deployment, LABELS } from "#operators/model-deployment/adapters/deployment.ts";
import type { MemoryBroker } from "#runtime/bus/memory/broker.ts";
import { MemoryBus } from "#runtime/bus/memory/index.ts";
import type { DecisionWorker } from "#runtime/handover/worker.ts";
import { echoWorker } from "./handover.ts";
import { waitFor } from "./wait.ts";

/** Workers in this process that decide in the place of pods, each for as long as its revision has some. */
export class Crew {
  readonly #broker: MemoryBroker;
  readonly #deployment: string;
  readonly #topic: string;
  readonly #workers = new Map<
    string,
    { readonly bus: MemoryBus; readonly worker: Promise<DecisionWorker> }
  >();
  readonly #stopping: Promise<unknown>[] = [];

  constructor(broker: MemoryBroker, deployment: string, topic: string) {
    this.#broker = broker;
    this.#deployment = deployment;
    this.#topic = topic;
  }

  /** A Deployment is new, has changed or is gone. */
  follow({ metadata, spec }: Deployment, isGone: boolean): void {
    const { labels, annotations } = metadata;
    const revision = labels?.[LABELS.revision] ?? "";
    if (isGone || spec.replicas === 0) this.#dismiss(revision);
    else if (!this.#workers.has(revision)) {
      const bus = new MemoryBus(this.#broker);
      this.#workers.set(revision, { bus, worker: this.#hire(revision, bus, annotations ?? {}) });
    }
  }

  async close(): Promise<void> {
    for (const revision of this.#workers.keys()) this.#dismiss(revision);
    await Promise.all(this.#stopping);
  }

  async #hire(
    revision: string,
    bus: MemoryBus,
    annotations: Readonly<Record<string, string>>,
  ): Promise<DecisionWorker> {
    const start = async () => {
      const topics = [this.#topic];
      const worker = echoWorker({
        bus,
        deployment: this.#deployment,
        revision,
        topics,
        modelDigest: annotations[ANNOTATIONS.digest] ?? "",
        configuration: annotations[ANNOTATIONS.configuration],
      });
      await worker.start();
      return worker;
    };
    // The operator makes the topics.
    return waitFor("a worker", start, 60_000, 200);
  }

  #dismiss(revision: string): void {
    const found = this.#workers.get(revision);
    this.#workers.delete(revision);
    if (found === undefined) return;
    const gone = found.worker.then((worker) => worker.stop()).then(() => found.bus.close());
    this.#stopping.push(gone.catch(() => {}));
  }
}
