import type { Api } from "#operators/controller-kit/api.ts";
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
export function mortalApi(api: Api, crash: Crash): Api {
  const read = <A extends unknown[], R>(work: (...args: A) => R) => {
    return (...args: A): R => {
      crash.alive();
      return work(...args);
    };
  };
  return {
    get: read(api.get.bind(api)) as Api["get"],
    list: read(api.list.bind(api)) as Api["list"],
    listAll: read(api.listAll.bind(api)) as Api["listAll"],
    watch: read(api.watch.bind(api)),
    create: (resource, object) =>
      crash.write(`create ${resource.plural}`, () => api.create(resource, object)),
    replace: (resource, object) =>
      crash.write(`replace ${resource.plural}`, () => api.replace(resource, object)),
    apply: (resource, object, subresource) => {
      const what = `apply ${resource.plural}${subresource === undefined ? "" : `/${subresource}`}`;
      return crash.write(what, () => api.apply(resource, object, subresource));
    },
    merge: (resource, namespace, name, patch) =>
      crash.write(`merge ${resource.plural}`, () => api.merge(resource, namespace, name, patch)),
    delete: (resource, namespace, name, uid) =>
      crash.write(`delete ${resource.plural}`, () => api.delete(resource, namespace, name, uid)),
  };
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
        settled: (...args) => producer.settled(...args),
        commit: (transaction) => crash.write("ledger", () => producer.commit(transaction)),
        close: () => producer.close(),
      };
    },
  };
}
