import type { KubeConfig } from "@kubernetes/client-node";
import { KubeApi, type KubeObject, type ListOptions, type Resource } from "#operators/controller-kit/api.ts";
import type { Bus, TransactionalOptions } from "#runtime/bus/port.ts";

// An operator that dies at one of its writes. Everything that it does outside of itself goes through here: once it is dead
// nothing of it comes through any more, as if its process had been killed.

/** Before the write is sent, or after it has been done and before the answer is known. */
export interface CrashPoint {
  /** Counts from 1. */
  readonly write: number;
  readonly when: "before" | "after";
}

export class Crash {
  /** What was written, in order: `apply modeldeployments/status`, `ledger`, … */
  readonly writes: string[] = [];
  readonly #at: CrashPoint | undefined;
  #dead = false;
  #die: () => void = () => {};
  /** Resolves when it has died. */
  readonly died: Promise<void>;

  constructor(at?: CrashPoint) {
    this.#at = at;
    this.died = new Promise((resolve) => {
      this.#die = resolve;
    });
  }

  get dead(): boolean {
    return this.#dead;
  }

  /** Nothing comes from the dead. */
  alive(): void {
    if (this.#dead) throw new Error("the operator is dead");
  }

  async write<T>(what: string, run: () => Promise<T>): Promise<T> {
    this.alive();
    const nth = this.writes.push(what);
    const here = this.#at?.write === nth;
    if (here && this.#at?.when === "before") this.kill();
    this.alive();
    const answer = await run();
    if (here) this.kill();
    this.alive();
    return answer;
  }

  kill(): void {
    this.#dead = true;
    this.#die();
  }
}

/** The API server as an operator sees it that may die. */
export class MortalApi extends KubeApi {
  readonly #crash: Crash;

  constructor(config: KubeConfig, crash: Crash) {
    super(config, { fieldManager: "baton" });
    this.#crash = crash;
  }

  override get<T extends KubeObject>(resource: Resource, namespace: string | undefined, name: string) {
    this.#crash.alive();
    return super.get<T>(resource, namespace, name);
  }

  override list<T extends KubeObject>(resource: Resource, options?: ListOptions) {
    this.#crash.alive();
    return super.list<T>(resource, options);
  }

  override create<T extends KubeObject>(resource: Resource, object: T) {
    return this.#crash.write(`create ${resource.plural}`, () => super.create(resource, object));
  }

  override replace<T extends KubeObject>(resource: Resource, object: T) {
    return this.#crash.write(`replace ${resource.plural}`, () => super.replace(resource, object));
  }

  override apply<T extends KubeObject>(resource: Resource, object: T, subresource?: "status" | "scale") {
    const what = `apply ${resource.plural}${subresource === undefined ? "" : `/${subresource}`}`;
    return this.#crash.write(what, () => super.apply(resource, object, subresource));
  }

  override merge<T extends KubeObject>(
    resource: Resource,
    namespace: string | undefined,
    name: string,
    patch: unknown,
  ) {
    return this.#crash.write(`merge ${resource.plural}`, () =>
      super.merge<T>(resource, namespace, name, patch),
    );
  }

  override delete(resource: Resource, namespace: string | undefined, name: string, uid?: string) {
    return this.#crash.write(`delete ${resource.plural}`, () => super.delete(resource, namespace, name, uid));
  }
}

/** The bus as an operator sees it that may die: what a conductor commits is a write. */
export function mortalBus(bus: Bus, crash: Crash): Bus {
  return {
    consumer: (options) =>
      bus.consumer({
        ...options,
        onBatch: async (batch) => {
          if (!crash.dead) await options.onBatch(batch);
        },
      }),
    admin: () => bus.admin(),
    ping: () => bus.ping(),
    close: () => bus.close(),
    producer: async (options) => {
      const producer = await bus.producer(options);
      return {
        send: (record) => crash.write("send", () => producer.send(record)),
        flush: () => producer.flush(),
        close: () => producer.close(),
      };
    },
    transactionalProducer: async (id: string, options?: TransactionalOptions) => {
      crash.alive();
      const producer = await bus.transactionalProducer(id, options);
      return {
        id: producer.id,
        settled: producer.settled,
        commit: (transaction) => crash.write("ledger", () => producer.commit(transaction)),
        close: () => producer.close(),
      };
    },
  };
}
