import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { Registry } from "prom-client";
import { BusError } from "#runtime/bus/errors.ts";
import type { Batch, Behind, Bus, Consumer, Position, TopicPartition } from "#runtime/bus/port.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { type HaltCache, HaltSwitch } from "./halt.ts";
import { LedgerFollower } from "./ledger.ts";
import { handoverMetrics } from "./metrics.ts";
import { OUTCOME_HEADER, type Outcome, type OutcomeKind } from "./outcome.ts";
import { PartitionWorker, REVOKED_WITHIN_MS } from "./partition.ts";
import type { Revision } from "./revision.ts";
import { placeKey } from "./rules.ts";
import { groupOf } from "./standing.ts";

/** What a model made of one record of a batch. */
export interface Decided {
  readonly instrument: string;
  readonly kind: OutcomeKind;
  readonly key: string | undefined;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, string>>;
  /** When it happened at its source, milliseconds since 1970, where that is known. */
  readonly eventTime?: number;
}

export interface WorkerOptions {
  readonly bus: Bus;
  readonly deployment: string;
  readonly revision: string;
  /** Digest of the model that was loaded, for the outcomes' headers and for the ledger. */
  readonly modelDigest: string;
  /** Hash of the configuration, as the operator has given it to this process. */
  readonly configuration?: string | undefined;
  readonly topics: readonly string[];
  /** Where the first revision of a deployment begins. A later one begins where its predecessors are. */
  readonly from: "earliest" | "latest";
  readonly sessionTimeoutMs?: number;
  /** The broker answers when it has so many bytes for a worker, or after `maxWaitMs`: the size of a transaction. */
  readonly minBytes?: number;
  readonly maxWaitMs?: number;
  /** Most bytes of shadow outcomes kept in memory for each partition. Default 8 MiB. */
  readonly ringBytes?: number;
  /** Most live decisions of one transaction of a take-over. Default 5,000. */
  readonly fillRecords?: number;
  /** The group's position is committed once in so long; 0 for with every batch. Default 250. */
  readonly positionMs?: number;
  /**
   * A revision that comes back to a partition and is behind by more records that it need not decide begins anew where
   * those who decide have got to. Default 1,000.
   */
  readonly owedRecords?: number;
  /** A batch of the next owner waits so long for a release that was asked for. Default 50. */
  readonly releaseSoonMs?: number;
  readonly haltCache: HaltCache;
  /** Decides on every record of a batch, in the order of the records: as many answers as records. */
  readonly decide: (batch: Batch) => Promise<readonly Decided[]>;
  /** Called when a batch has been committed. */
  readonly onCommitted?: (batch: Batch, decided: readonly Decided[]) => void;
  readonly registry: Registry;
  readonly log: Logger;
  readonly fatal: (error: unknown) => void;
  readonly unsafe?: Revision["unsafe"];
  readonly hook?: Revision["hook"];
}

/** How long the ledger is not read where a test switches that off. */
const UNREAD_MS = 15_000;

/** A broker that is not there comes back; who was fenced while it took over may try again. */
const AWAY: ReadonlySet<string> = new Set([
  "FENCED",
  "BROKER_UNAVAILABLE",
  "ADMIN_FAILED",
  "TRANSACTION_FAILED",
  "UNCERTAIN",
]);
const RETRY_MS = 500;
/** What handlers may take to end by themselves. */
const STOP_MS = 5_000;

export const DEFAULT_RING_BYTES = 8 * 1024 * 1024;
const DEFAULT_FILL_RECORDS = 5_000;
const DEFAULT_POSITION_MS = 250;
const DEFAULT_RELEASE_SOON_MS = 50;
const DEFAULT_OWED_RECORDS = 1_000;
/** What the last positions may take at the end; without them there is only more to go over again. */
const SETTLE_MS = 1_000;

/**
 * The workers of one revision in this process, one a partition: every record of the input gets one outcome, live where
 * the ledger says that this revision decides, shadow elsewhere, in a transaction with the input offset.
 */
export class DecisionWorker {
  readonly #options: WorkerOptions;
  readonly #follower: LedgerFollower;
  readonly #halt: HaltSwitch;
  readonly #workers = new Map<string, PartitionWorker>();
  readonly #assigned = new Map<string, AbortController>();
  #shared: Revision | undefined;
  #consumer: Consumer | undefined;
  #stopListening: () => void = () => {};
  #settling: NodeJS.Timeout | undefined;

  constructor(options: WorkerOptions) {
    this.#options = options;
    const { bus, deployment, haltCache: cache, log } = options;
    this.#follower = new LedgerFollower({ bus, deployment, onFatal: options.fatal });
    this.#halt = new HaltSwitch({ bus, deployment, follower: this.#follower, cache, log });
  }

  async start(): Promise<void> {
    const { bus, deployment, revision, modelDigest: model, configuration, unsafe, hook } = this.#options;
    const admin = await bus.admin();
    this.#shared = {
      bus,
      deployment,
      revision,
      report: configuration === undefined ? { model } : { model, configuration },
      follower: this.#follower,
      halted: () => this.#halt.halted(),
      destinations: {
        live: topics.signals(deployment),
        shadow: topics.shadow(deployment),
        deadLetters: topics.deadLetters(deployment),
        shadowPartitions: await admin.partitions(topics.shadow(deployment)),
      },
      from: this.#options.from,
      ringBytes: this.#options.ringBytes ?? DEFAULT_RING_BYTES,
      fillRecords: this.#options.fillRecords ?? DEFAULT_FILL_RECORDS,
      positionMs: this.#options.positionMs ?? DEFAULT_POSITION_MS,
      releaseSoonMs: this.#options.releaseSoonMs ?? DEFAULT_RELEASE_SOON_MS,
      owedRecords: this.#options.owedRecords ?? DEFAULT_OWED_RECORDS,
      metrics: handoverMetrics(this.#options.registry),
      ...(unsafe === undefined ? {} : { unsafe }),
      ...(hook === undefined ? {} : { hook }),
    };
    if (unsafe === "ledger-read") setTimeout(() => void this.#follower.start(), UNREAD_MS);
    else await this.#follower.start();
    await this.#halt.start();
    this.#stopListening = this.#follower.onChange(() => this.#each((worker) => worker.discharge()));
    this.#settling = setInterval(
      () => this.#each((worker) => worker.settle()),
      this.#shared.positionMs || 1_000,
    );
    this.#consumer = await bus.consumer({
      group: groupOf(deployment, revision),
      topics: this.#options.topics,
      from: "earliest",
      ...definedOnly({
        sessionTimeoutMs: this.#options.sessionTimeoutMs,
        minBytes: this.#options.minBytes,
        maxWaitMs: this.#options.maxWaitMs,
      }),
      onAssigned: (partition) => this.#takeOver(partition),
      onRevoked: (partition) => this.#letGo(partition),
      onBatch: (batch) => this.#process(batch),
      onFatal: this.#options.fatal,
    });
  }

  /** As of a consumer, of the input or of the ledger, whichever is older. */
  lastProgress(): number {
    return Math.min(this.#consumer?.lastProgress() ?? 0, this.#follower.lastProgress());
  }

  behind(): readonly Behind[] {
    return [...(this.#consumer?.behind() ?? []), ...this.#follower.behind()];
  }

  assignment(): readonly TopicPartition[] {
    return this.#consumer?.assignment() ?? [];
  }

  async stop(): Promise<void> {
    this.#stopListening();
    clearInterval(this.#settling);
    const settled = Promise.allSettled([...this.#workers.values()].map((worker) => worker.stopping()));
    await Promise.race([settled, sleep(SETTLE_MS, undefined, { ref: false })]);
    for (const controller of this.#assigned.values()) controller.abort();
    const closed = this.#consumer?.close();
    // What is being decided on is committed, where Kafka takes it soon.
    await Promise.race([closed, sleep(STOP_MS, undefined, { ref: false })]);
    await Promise.all([...this.#workers.values()].map((worker) => worker.close()));
    await closed;
    this.#halt.stop();
    await this.#follower.close();
  }

  async #takeOver(place: TopicPartition): Promise<bigint | undefined> {
    const shared = this.#shared;
    if (shared === undefined) return undefined;
    const key = placeKey(place);
    const controller = new AbortController();
    this.#assigned.set(key, controller);
    try {
      const worker = await this.#openWhenThere(shared, place, controller.signal);
      if (worker === undefined || this.#assigned.get(key) !== controller || controller.signal.aborted) {
        await worker?.close();
        return undefined;
      }
      this.#workers.set(key, worker);
      this.#options.log.info({ ...place, offset: String(worker.position) }, "partition taken over");
      this.#guard(worker, (one) => one.discharge());
      return worker.position;
    } catch (error) {
      // It has gone to somebody else in the meantime.
      if (controller.signal.aborted) return undefined;
      throw error;
    }
  }

  #letGo(place: TopicPartition): void {
    const key = placeKey(place);
    this.#assigned.get(key)?.abort();
    this.#assigned.delete(key);
    void this.#workers.get(key)?.close();
    this.#workers.delete(key);
  }

  async #process(batch: Batch): Promise<void> {
    const worker = this.#workers.get(placeKey(batch));
    const last = batch.records.at(-1);
    if (worker === undefined) throw new BusError("REBALANCED", placeKey(batch));
    if (last === undefined) return;
    const decided = await this.#options.decide(batch);
    if (decided.length !== batch.records.length) {
      throw new Error(`the model answered ${decided.length} times to ${batch.records.length} records`);
    }
    await this.#shared?.hook?.("decided", worker.place);
    const outcomes = decided.map((entry, i) => this.#outcome(entry, batch.records[i] as Position));
    try {
      await worker.commit(outcomes, last.offset + 1n);
    } catch (error) {
      if (!isUncertain(error)) throw error;
      await this.#reopen(worker);
      // What follows was fetched for the worker that is no more.
      throw new BusError("REBALANCED", placeKey(batch), { cause: error });
    }
    this.#options.onCommitted?.(batch, decided);
  }

  /** Takes a partition over from oneself: what became of the latest commit is read back. */
  async #reopen(worker: PartitionWorker): Promise<void> {
    const { place } = worker;
    const key = placeKey(place);
    const shared = this.#shared;
    const controller = this.#assigned.get(key);
    if (this.#workers.get(key) !== worker || shared === undefined || controller === undefined) return;
    this.#workers.delete(key);
    await worker.close();
    const fresh = await this.#openWhenThere(shared, place, controller.signal);
    if (fresh === undefined || controller.signal.aborted || this.#assigned.get(key) !== controller) {
      await fresh?.close();
      return;
    }
    // Together: no batch of before gets to the fresh one.
    this.#consumer?.seek({ ...place, offset: fresh.position });
    this.#workers.set(key, fresh);
    this.#options.log.warn({ ...place, offset: String(fresh.position) }, "commit uncertain: taken over anew");
    this.#guard(fresh, (one) => one.discharge());
  }

  /** Tries for as long as there is no broker, unless the partition goes to somebody else: then undefined. */
  async #openWhenThere(
    shared: Revision,
    place: TopicPartition,
    signal: AbortSignal,
  ): Promise<PartitionWorker | undefined> {
    while (!signal.aborted) {
      try {
        return await PartitionWorker.open(shared, place, signal);
      } catch (error) {
        if (signal.aborted) break;
        if (!(error instanceof BusError) || !AWAY.has(error.code)) throw error;
        this.#options.log.warn({ ...place, err: error }, "not taken over: trying again");
        // A conductor that thought this worker dead; or another worker, of which this one hears within that time.
        const ms = error.code === "FENCED" ? REVOKED_WITHIN_MS : RETRY_MS;
        await sleep(ms, undefined, { signal }).catch(() => {});
      }
    }
    return undefined;
  }

  #outcome(decided: Decided, { topic, partition, offset }: Position): Outcome {
    const { revision, modelDigest } = this.#options;
    return {
      ...decided,
      input: { topic, partition, offset },
      headers: {
        ...decided.headers,
        [OUTCOME_HEADER.input]: `${topic}/${partition}/${offset}`,
        [OUTCOME_HEADER.instrument]: decided.instrument,
        [OUTCOME_HEADER.revision]: revision,
        [OUTCOME_HEADER.model]: modelDigest,
      },
    };
  }

  #each(work: (worker: PartitionWorker) => Promise<void>): void {
    for (const worker of this.#workers.values()) this.#guard(worker, work);
  }

  #guard(worker: PartitionWorker, work: (worker: PartitionWorker) => Promise<void>): void {
    work(worker)
      .catch((error: unknown) => {
        if (isUncertain(error)) return this.#reopen(worker);
        throw error;
      })
      .catch((error: unknown) => {
        if (!(error instanceof BusError && error.code === "REBALANCED")) this.#options.fatal(error);
      });
  }
}

function isUncertain(error: unknown): boolean {
  return error instanceof BusError && error.code === "UNCERTAIN";
}

/** Without the properties that are undefined, for types that know them as absent only. */
function definedOnly<T extends object>(given: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: NonNullable<T[K]>;
  };
}
