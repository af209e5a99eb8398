import type { Tracer } from "@opentelemetry/api";
import type { Logger } from "pino";
import type { Registry } from "prom-client";
import { deadLetter, type Reason } from "#runtime/bus/dead-letters.ts";
import type { Batch, Headers, InRecord } from "#runtime/bus/port.ts";
import {
  type AdmissionRules,
  admit,
  DecodeError,
  encode,
  SCHEMA_HEADER,
  Signal,
} from "#runtime/contracts/index.ts";
import { FeatureError, type FeatureRead, type FeatureViewStore } from "#runtime/features/index.ts";
import type { Decided } from "#runtime/handover/worker.ts";
import { type Forecasts, type Model, ModelError } from "#runtime/model/index.ts";
import { Dependency } from "#runtime/service/dependency.ts";
import { continueTrace, passOn, TRACE_HEADER } from "#runtime/service/tracing.ts";
import { type Accepted, type Identity, toSignal, usable } from "./decide.ts";
import { deciderMetrics } from "./metrics.ts";

export interface DeciderOptions {
  readonly features: FeatureViewStore;
  readonly model: Model;
  readonly identity: Identity;
  readonly admission: AdmissionRules;
  readonly registry: Registry;
  readonly log: Logger;
  readonly tracer: Tracer;
}

/** An instrument's name has at most 32 characters; a key that is none is cut, so that headers stay small. */
const MAX_KEY = 128;
const NO_FORECASTS: Forecasts = {
  mu: new Float32Array(),
  sigma: new Float32Array(),
  confidence: new Float32Array(),
};

/** Makes one signal or one rejection of every record of a batch. */
export class SignalDecider {
  readonly #options: DeciderOptions;
  readonly #metrics: ReturnType<typeof deciderMetrics>;
  readonly #stopping = new AbortController();
  readonly #features: Dependency;
  readonly #model: Dependency;

  constructor(options: DeciderOptions) {
    this.#options = options;
    this.#metrics = deciderMetrics(options.registry);
    const common = { trips: this.#metrics.trips, log: options.log, signal: this.#stopping.signal };
    // Deciding without features would be a different model.
    this.#features = new Dependency({
      ...common,
      name: "features",
      isAway: (error) => error instanceof FeatureError,
    });
    // A model server that is away comes back; a model in this process that fails does not.
    this.#model = new Dependency({
      ...common,
      name: "model",
      isAway: (error) => error instanceof ModelError && error.code === "INFERENCE_FAILED",
    });
  }

  /** Ends waiting for features and models that are away. */
  stop(): void {
    this.#stopping.abort();
  }

  async decide({ records }: Batch): Promise<readonly Decided[]> {
    const now = Date.now();
    const verdicts = records.map((record) => ({ record, ...admit(record, this.#options.admission, now) }));
    const accepted = verdicts.filter((verdict) => verdict.admitted);
    const instruments = [...new Set(accepted.map(({ message }) => message.instrument))];
    const reads = await this.#readFeatures(instruments, now);
    const { forecasts, rowOf } = await this.#forecast(instruments, reads);
    return verdicts.map((verdict) => {
      if (!verdict.admitted) return this.#rejection(keyOf(verdict.record), verdict);
      const { instrument } = verdict.message;
      const read = reads.get(instrument) ?? { status: "missing", reason: "absent" };
      return this.#decision(verdict, read, forecasts, rowOf.get(instrument), now);
    });
  }

  /** Called when the outcomes of a batch are committed. */
  committed(decided: readonly Decided[]): void {
    const now = Date.now();
    for (const { kind, headers, eventTime } of decided) {
      if (kind === "rejected") this.#metrics.rejected.inc({ code: headers["baton-dl-code"] ?? "" });
      else this.#metrics.endToEnd.observe(Math.max(0, now - (eventTime ?? now)) / 1000);
    }
    this.#metrics.signals.inc(decided.filter(({ kind }) => kind === "decision").length);
  }

  #decision(
    entry: Accepted,
    read: FeatureRead,
    forecasts: Forecasts,
    row: number | undefined,
    now: number,
  ): Decided {
    const { record, message } = entry;
    const span = continueTrace(this.#options.tracer, "signal", record.headers[TRACE_HEADER]);
    try {
      const signal = toSignal(entry, this.#options.identity, read, forecasts, row, now);
      const value = encode(Signal, signal);
      const traceparent = passOn(span, record.headers[TRACE_HEADER]);
      const headers: Headers = {
        [SCHEMA_HEADER]: Signal.id,
        ...(traceparent === undefined ? {} : { [TRACE_HEADER]: traceparent }),
      };
      const { instrument, eventTime } = message;
      return { instrument, kind: "decision", key: instrument, value, headers, eventTime };
    } catch (error) {
      // A model that answers NaN: the record has an outcome all the same.
      if (!(error instanceof DecodeError)) throw error;
      return this.#rejection(message.instrument, { record, code: "BAD_FORECAST", error: error.message });
    } finally {
      span?.end();
    }
  }

  #rejection(instrument: string, { record, code, error }: Reason & { readonly record: InRecord }): Decided {
    const { key, value, headers = {} } = deadLetter(record, { code, error }, "");
    return { instrument, kind: "rejected", key, value, headers };
  }

  async #readFeatures(
    instruments: readonly string[],
    now: number,
  ): Promise<ReadonlyMap<string, FeatureRead>> {
    const reads = await this.#features.ask(() => this.#options.features.read(instruments, now));
    return new Map(reads.map((read, i) => [instruments[i] as string, read]));
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
    const forecasts = await this.#model.ask(() => this.#options.model.infer(rows, vectors.length));
    return { forecasts, rowOf };
  }
}

function keyOf(record: InRecord): string {
  return (record.key ?? "").slice(0, MAX_KEY);
}
