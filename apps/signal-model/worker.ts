import { setTimeout as sleep } from "node:timers/promises";
import type { Tracer } from "@opentelemetry/api";
import type { Logger } from "pino";
import type { Registry } from "prom-client";
import { deadLetter } from "#runtime/bus/dead-letters.ts";
import { BusError } from "#runtime/bus/errors.ts";
import type {
  Batch,
  Bus,
  Consumer,
  OutRecord,
  TopicPartition,
  TransactionalProducer,
} from "#runtime/bus/port.ts";
import { DecodeError, encode, SCHEMA_HEADER, Signal } from "#runtime/contracts/index.ts";
import { FeatureError, type FeatureRead, type FeatureViewStore } from "#runtime/features/index.ts";
import { type Forecasts, type Model, ModelError } from "#runtime/model/index.ts";
import { continueTrace, passOn, TRACE_HEADER } from "#runtime/service/tracing.ts";
import { type Accepted, admit, type Identity, type Rejected, toSignal, usable } from "./decide.ts";
import { workerMetrics } from "./metrics.ts";

export interface WorkerOptions {
  readonly bus: Bus;
  readonly features: FeatureViewStore;
  readonly model: Model;
  readonly identity: Identity;
  readonly group: string;
  readonly topics: readonly string[];
  /** Where to start when the group has never committed. */
  readonly from: "earliest" | "latest";
  readonly sessionTimeoutMs: number;
  readonly output: string;
  readonly deadLetters: string;
  readonly instruments: ReadonlySet<string> | undefined;
  readonly registry: Registry;
  readonly log: Logger;
  readonly tracer: Tracer;
  readonly fatal: (error: unknown) => void;
}

const RETRY_MS = 50;
const NO_FORECASTS: Forecasts = {
  mu: new Float32Array(),
  sigma: new Float32Array(),
  confidence: new Float32Array(),
};

/**
 * One signal or dead letter for every record, in a transaction with the input offsets. A partition is taken over
 * in the order that makes this exact: fence whoever had it, then read where it got to, then go on from there.
 */
export class SignalWorker {
  readonly #options: WorkerOptions;
  readonly #producers = new Map<string, TransactionalProducer>();
  readonly #metrics: ReturnType<typeof workerMetrics>;
  readonly #stopping = new AbortController();
  #consumer: Consumer | undefined;

  constructor(options: WorkerOptions) {
    this.#options = options;
    this.#metrics = workerMetrics(options.registry);
  }

  async start(): Promise<void> {
    const { bus, group, topics, fatal } = this.#options;
    this.#consumer = await bus.consumer({
      group,
      topics,
      from: "earliest",
      sessionTimeoutMs: this.#options.sessionTimeoutMs,
      onAssigned: (partition) => this.#takeOver(partition),
      onRevoked: (partition) => this.#letGo(partition),
      onBatch: (batch) => this.#process(batch),
      onFatal: fatal,
    });
  }

  /** Milliseconds since 1970 of the latest sign of life of Kafka. */
  lastProgress(): number {
    return this.#consumer?.lastProgress() ?? 0;
  }

  assignment(): readonly TopicPartition[] {
    return this.#consumer?.assignment() ?? [];
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#consumer?.close();
    await Promise.all([...this.#producers.values()].map((producer) => producer.close()));
  }

  async #takeOver({ topic, partition }: TopicPartition): Promise<bigint | undefined> {
    const { bus, group, identity, log } = this.#options;
    const id = `${identity.deployment}.${identity.revision}.${topic}.${partition}`;
    const producer = await bus.transactionalProducer(id);
    this.#producers.set(`${topic}/${partition}`, producer);
    const admin = await bus.admin();
    let start = (await admin.committed(group, topic)).get(partition);
    if (start === undefined) {
      start = (await admin.offsets(topic)).get(partition)?.[this.#options.from] ?? 0n;
      // Kept at once: a crash before the first batch must not move the beginning.
      await producer.commit({
        records: [],
        offsets: { group, positions: [{ topic, partition, offset: start }] },
      });
    }
    log.info({ topic, partition, offset: String(start) }, "partition taken over");
    return start;
  }

  #letGo({ topic, partition }: TopicPartition): void {
    const key = `${topic}/${partition}`;
    const producer = this.#producers.get(key);
    this.#producers.delete(key);
    void producer?.close().catch(() => {});
  }

  async #process(batch: Batch): Promise<void> {
    const { topic, partition, records } = batch;
    const producer = this.#producers.get(`${topic}/${partition}`);
    if (producer === undefined) throw new BusError("REBALANCED", `${topic}/${partition}`);
    const { deadLetters, group, identity } = this.#options;
    const now = Date.now();
    const verdicts = records.map((record) => admit(record, this.#options.instruments, now));
    const accepted = verdicts.filter((verdict): verdict is Accepted => "message" in verdict);
    const rejected = verdicts.filter((verdict): verdict is Rejected => "code" in verdict);

    const instruments = [...new Set(accepted.map(({ message }) => message.instrument))];
    const reads = await this.#readFeatures(instruments, now);
    const { forecasts, rowOf } = await this.#forecast(instruments, reads);

    const out: OutRecord[] = [];
    for (const entry of accepted) {
      const { instrument } = entry.message;
      const read = reads.get(instrument) ?? { status: "missing", reason: "absent" };
      const span = continueTrace(this.#options.tracer, "signal", entry.record.headers[TRACE_HEADER]);
      const traceparent = passOn(span, entry.record.headers[TRACE_HEADER]);
      try {
        const signal = toSignal(entry, identity, read, forecasts, rowOf.get(instrument), now);
        out.push(this.#signalRecord(signal, traceparent));
      } catch (error) {
        // A model that answers NaN: the record has an outcome all the same.
        if (!(error instanceof DecodeError)) throw error;
        rejected.push({ record: entry.record, code: "BAD_FORECAST", error: error.message });
      } finally {
        span?.end();
      }
    }
    for (const { record, code, error } of rejected) {
      out.push(deadLetter(record, { code, error }, deadLetters));
      this.#metrics.rejected.inc({ code });
    }

    const last = records.at(-1);
    if (last === undefined) return;
    await producer.commit({
      records: out,
      offsets: { group, positions: [{ topic, partition, offset: last.offset + 1n }] },
    });
    const committedAt = Date.now();
    for (const { message } of accepted) {
      this.#metrics.endToEnd.observe(Math.max(0, committedAt - message.eventTime) / 1000);
    }
    this.#metrics.signals.inc(accepted.length);
  }

  #signalRecord(signal: Signal, traceparent: string | undefined): OutRecord {
    return {
      topic: this.#options.output,
      key: signal.instrument,
      value: encode(Signal, signal),
      headers: {
        [SCHEMA_HEADER]: Signal.id,
        "baton-revision": signal.revision,
        "baton-input": `${signal.input.topic}/${signal.input.partition}/${signal.input.offset}`,
        ...(traceparent === undefined ? {} : { [TRACE_HEADER]: traceparent }),
      },
    };
  }

  /** Holds the partition while the store is away: deciding without features would be a different model. */
  async #readFeatures(
    instruments: readonly string[],
    now: number,
  ): Promise<ReadonlyMap<string, FeatureRead>> {
    for (let told = false; ; ) {
      try {
        const reads = await this.#options.features.read(instruments, now);
        if (told) this.#options.log.info("features can be read again");
        return new Map(reads.map((read, i) => [instruments[i] as string, read]));
      } catch (error) {
        if (!(error instanceof FeatureError)) throw error;
        if (this.#stopping.signal.aborted) throw new BusError("REBALANCED", "stopping");
        if (!told) this.#options.log.warn({ err: error }, "features cannot be read; holding");
        told = true;
        await sleep(RETRY_MS);
      }
    }
  }

  async #forecast(
    instruments: readonly string[],
    reads: ReadonlyMap<string, FeatureRead>,
  ): Promise<{ readonly forecasts: Forecasts; readonly rowOf: ReadonlyMap<string, number> }> {
    const rowOf = new Map<string, number>();
    const vectors: Float32Array[] = [];
    for (const instrument of instruments) {
      const read = reads.get(instrument);
      const values = read === undefined ? undefined : usable(read);
      if (values === undefined) continue;
      rowOf.set(instrument, vectors.length);
      vectors.push(values);
    }
    const [first] = vectors;
    if (first === undefined) return { forecasts: NO_FORECASTS, rowOf };
    const rows = new Float32Array(vectors.length * first.length);
    for (const [i, vector] of vectors.entries()) rows.set(vector, i * first.length);
    for (let told = false; ; ) {
      try {
        return { forecasts: await this.#options.model.infer(rows, vectors.length), rowOf };
      } catch (error) {
        // A model server that is away comes back; a model in this process that fails does not.
        if (!(error instanceof ModelError) || error.code !== "INFERENCE_FAILED") throw error;
        if (this.#stopping.signal.aborted) throw new BusError("REBALANCED", "stopping");
        if (!told) this.#options.log.warn({ err: error }, "the model does not answer; holding");
        told = true;
        await sleep(RETRY_MS);
      }
    }
  }
}
