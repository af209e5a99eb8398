import type { Logger } from "pino";
import type { Api } from "#operators/controller-kit/api.ts";
import { backoffMs } from "#operators/controller-kit/backoff.ts";
import { ApiError } from "#operators/controller-kit/errors.ts";
import { KeyedQueue } from "#operators/controller-kit/queue.ts";
import type { Bus } from "#runtime/bus/port.ts";
import { Cluster } from "./adapters/cluster.ts";
import type { Deployment } from "./adapters/deployment.ts";
import { measure } from "./adapters/measure.ts";
import type { Notifier } from "./adapters/notify.ts";
import { Publisher } from "./adapters/publish.ts";
import { StatusWriter } from "./adapters/status.ts";
import { type StreamSpec, Streams } from "./adapters/streams.ts";
import { type Seen, View } from "./adapters/view.ts";
import { changeOf } from "./core/change.ts";
import { withReports } from "./core/coherence.ts";
import type { Effect, Observed, Plan, Result } from "./core/observed.ts";
import { plan } from "./core/plan.ts";
import type { OperatorMetrics } from "./metrics.ts";

// The shell: looks, lets the core decide, writes the status, then does what was decided. Everything that it remembers can
// be lost: what counts is in the API server and in the ledger.

export interface OperatorOptions {
  readonly api: Api;
  readonly bus: Bus;
  readonly prometheus: string;
  /** Replicas of topics that are made. */
  readonly topicReplicas: number;
  readonly log: Logger;
  readonly workers?: number;
  /** The only namespace whose objects it sees to; all when absent. */
  readonly namespace?: string | undefined;
  /** Counts leading operators; what is written carries it, and what an older one writes is refused. */
  readonly epoch?: number;
  readonly metrics?: OperatorMetrics;
  readonly notifier?: Notifier;
}

/** Objects that are seen to at once: most of it is waiting for the API server. */
const WORKERS = 24;
/** Of those so many as nobody waits for: what follows from a change must not take the API server from the next change. */
const OTHERS = 4;
/** What is no more than progress may wait so long to be written. */
const PROGRESS_MS = 500;
/**
 * The answer to a write may tell of what somebody else has written before it, which no watch tells of once more: it is
 * looked at. Not at once, since whoever undoes it may do so each time.
 */
const LOOK_AGAIN_MS = 1_000;
/** Looks at an object whose status cannot be written are so far apart, unless something happens. */
const UNWRITTEN_MS = 1_000;
const BACKOFF = { baseMs: 200, maxMs: 60_000 };
/** Measurements that wait for a pass; more are dropped, oldest first. */
const MAX_RESULTS = 200;

export class Operator {
  readonly #options: OperatorOptions;
  readonly #cluster: Cluster;
  readonly #publisher: Publisher;
  readonly #statuses: StatusWriter;
  readonly #queue: KeyedQueue;
  readonly #streams: Streams;
  readonly #view: View;
  #started = false;
  /** Keys by the name of their stream, for changes of a ledger. */
  readonly #byStream = new Map<string, string>();
  readonly #results = new Map<string, Result[]>();
  readonly #measuring = new Set<string>();
  readonly #failures = new Map<string, number>();
  /** Since when something waits to be written. */
  readonly #unwritten = new Map<string, number>();
  readonly #uids = new Map<string, string>();
  readonly #stopping = new AbortController();

  constructor(options: OperatorOptions) {
    this.#options = options;
    const { api, bus, topicReplicas: replicas, log } = options;
    this.#cluster = new Cluster(api, options.epoch);
    this.#publisher = new Publisher(api, options.notifier);
    this.#statuses = new StatusWriter({
      cluster: this.#cluster,
      publisher: this.#publisher,
      log,
      metrics: options.metrics,
    });
    this.#queue = new KeyedQueue({
      workers: options.workers ?? WORKERS,
      others: OTHERS,
      work: (key) => this.#work(key),
      ...(options.metrics === undefined ? {} : { depth: options.metrics.queueDepth }),
    });
    this.#streams = new Streams({
      bus,
      replicas,
      onChange: (name) => {
        const key = this.#byStream.get(name);
        if (key !== undefined) this.#queue.add(key, true);
      },
      onEvent: (name, event) => {
        if (event.kind !== "waiting") log.info({ stream: name, event: event.kind }, "hand-over");
      },
      onError: (name, error) => log.warn({ stream: name, err: error }, "ledger"),
    });
    this.#view = new View({
      api,
      namespace: options.namespace,
      onChange: (key, urgent) => {
        if (this.#started) this.#queue.add(key, urgent);
      },
      onError: ({ message, kind }) => log.warn({ err: message, kind }, "watch"),
    });
  }

  async start(): Promise<void> {
    await this.#view.start();
    this.#started = true;
    for (const key of this.#view.keys()) this.#queue.add(key);
  }

  /** Nothing is begun any more; what is on its way is in the ledger and goes on with the next operator. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#view.stop();
    await this.#queue.close();
    await this.#streams.close();
  }

  /** Milliseconds since 1970 of the last sign of life of the API server. */
  lastProgress(): number {
    return this.#view.lastProgress();
  }

  async #work(key: string): Promise<number | undefined> {
    const { log, metrics } = this.#options;
    const end = metrics?.passSeconds.startTimer();
    try {
      const next = await this.#pass(key);
      this.#failures.delete(key);
      metrics?.passes.inc({ result: "done" });
      return next;
    } catch (error) {
      metrics?.passes.inc({ result: "failed" });
      const failures = this.#failures.get(key) ?? 0;
      this.#failures.set(key, failures + 1);
      const asked = error instanceof ApiError ? error.retryAfterMs : undefined;
      const wait = backoffMs(failures, BACKOFF, Math.random(), asked);
      log.warn({ key, err: error, failures, waitMs: wait }, "pass failed");
      return wait;
    } finally {
      end?.();
    }
  }

  async #pass(key: string): Promise<number | undefined> {
    const { log, metrics } = this.#options;
    const [namespace = "", name = ""] = key.split("/");
    const seen = this.#view.see(key);
    if (seen === undefined) {
      await this.#forget(key);
      return undefined;
    }
    const stream = streamOf(seen);
    const results = this.#results.get(key) ?? [];
    const now = Date.now();
    let invalid = seen.invalid;
    if (stream !== undefined) {
      const other = this.#byStream.get(stream.name);
      if (other === undefined) this.#byStream.set(stream.name, key);
      else if (other !== key)
        invalid ??= `spec.stream.name: ${other} has ${stream.name} already: choose another`;
    }
    const mine = stream === undefined || this.#byStream.get(stream.name) === key;
    const known = this.#statuses.known(key, seen.status);
    const view = stream === undefined || !mine ? undefined : this.#streams.view(stream, now);
    const observed: Observed = {
      now,
      object: {
        name,
        namespace,
        generation: seen.object.metadata.generation ?? 0,
        spec: seen.spec,
        status: known,
        command: seen.command,
      },
      invalid,
      instruments: seen.instruments,
      templates: seen.templates,
      revisions: withReports(seen.revisions, view?.reports),
      stream: view,
      results,
    };
    const planned = plan(observed);
    const { events, next } = planned;
    const status = this.#statuses.shape(key, planned.status);
    this.#uids.set(key, seen.object.metadata.uid ?? "");
    metrics?.observe(key, seen.status, status);
    // What came in meanwhile is for the next pass; what this one has seen must not count twice.
    const countResults = () =>
      this.#results.set(
        key,
        (this.#results.get(key) ?? []).filter((result) => !results.includes(result)),
      );
    const line = { key, phase: status.phase, step: status.currentStepIndex };
    const writeIn =
      this.#statuses.tryIn(key, now) === 0 ? 0 : this.#writeIn(key, changeOf(known, status), now);
    if (writeIn === 0 && (await this.#write(key, seen, stream, planned, now))) {
      countResults();
      for (const { reason, message } of events) log.info({ key, reason }, message);
      log.info({ ...line, wrote: true, tookMs: Date.now() - now }, "pass");
      // First what was decided, then what follows from it, in a look of its own: whoever comes after a crash reads the
      // decision, and who waits for a first look does not wait for what follows from others'.
      this.#queue.add(key, status.decision !== undefined);
      return undefined;
    }
    const effects = this.#statuses.allowed(key, planned.effects);
    for (const effect of effects) await this.#do(key, seen, stream, effect);
    await this.#publisher.publish(seen.object, this.#statuses.shape(key, status), now);
    countResults();
    const did = effects.map(({ kind }) => kind);
    log.info({ ...line, effects: did, tookMs: Date.now() - now, nextMs: next }, "pass");
    const wrote = effects.some(({ kind }) => kind === "Scale" || kind === "Restart");
    const tryAgainIn = this.#statuses.tryIn(key, now);
    const due = [
      next,
      writeIn === 0 ? undefined : writeIn,
      tryAgainIn,
      wrote ? LOOK_AGAIN_MS : undefined,
    ].filter((ms) => ms !== undefined);
    // What cannot be written is planned again with each look: it waits, and not for nothing.
    const atLeast = this.#statuses.isRemembered(key) ? UNWRITTEN_MS : 0;
    return due.length === 0 ? undefined : Math.max(atLeast, Math.min(...due));
  }

  /** Writes what was decided; false where nothing of it could be written or remembered, and what is safe may be done. */
  async #write(
    key: string,
    { object }: Seen,
    stream: StreamSpec | undefined,
    { status, events }: Plan,
    now: number,
  ): Promise<boolean> {
    // What is to go must not be given anything meanwhile: going back may have to wait for stable's replicas.
    const { decision } = status;
    if (stream !== undefined && decision !== undefined && decision.kind !== "Promote")
      this.#streams.cancel(stream.name, decision.revision);
    const published = this.#publisher.published(object, status);
    const whole = { ...status, ...(published === undefined ? {} : { published }) };
    const written = await this.#statuses.write(key, object, whole, events, now);
    if (typeof written === "object") this.#view.wrote(written);
    return written !== undefined;
  }

  /** In how many milliseconds a status is to be written: 0 now; undefined where nothing has changed. */
  #writeIn(key: string, change: ReturnType<typeof changeOf>, now: number): number | undefined {
    const since = this.#unwritten.get(key) ?? now;
    const wait = change === "progress" ? Math.max(0, since + PROGRESS_MS - now) : 0;
    if (wait > 0) this.#unwritten.set(key, since);
    else this.#unwritten.delete(key);
    return change === "nothing" ? undefined : wait;
  }

  async #do(key: string, seen: Seen, stream: StreamSpec | undefined, effect: Effect): Promise<void> {
    switch (effect.kind) {
      case "Scale":
        return this.#scaled(await this.#cluster.scale(seen, effect));
      case "Restart":
        return this.#scaled(await this.#cluster.restart(seen, effect));
      case "Protect":
        this.#view.wroteBudget(await this.#cluster.protect(seen, effect.revision));
        return;
      case "DeleteRevision":
        return this.#cluster.deleteRevision(seen, effect.revision);
      case "Route":
        if (stream !== undefined) this.#streams.route(stream, effect);
        return;
      case "Measure":
        this.#measure(key, seen, effect);
    }
  }

  #scaled(deployment: Deployment | undefined): void {
    if (deployment !== undefined) this.#view.wroteDeployment(deployment);
  }

  #measure(key: string, { object, spec }: Seen, effect: Effect & { kind: "Measure" }): void {
    const id = `${key} ${effect.name}`;
    if (this.#measuring.has(id)) return;
    this.#measuring.add(id);
    const { name, namespace = "" } = object.metadata;
    const context = {
      prometheus: this.#options.prometheus,
      namespace,
      deployment: spec.stream?.name ?? name,
      owner: object,
      api: this.#options.api,
      signal: this.#stopping.signal,
      now: Date.now,
    };
    void measure(effect, context).then((result) => {
      this.#measuring.delete(id);
      this.#results.set(key, [...(this.#results.get(key) ?? []), result].slice(-MAX_RESULTS));
      this.#queue.add(key, true);
    });
  }

  async #forget(key: string): Promise<void> {
    this.#results.delete(key);
    this.#failures.delete(key);
    this.#unwritten.delete(key);
    this.#statuses.forget(key);
    this.#options.metrics?.forget(key);
    this.#publisher.forget(this.#uids.get(key) ?? "");
    this.#uids.delete(key);
    for (const [name, of] of this.#byStream) {
      if (of !== key) continue;
      this.#byStream.delete(name);
      await this.#streams.forget(name);
    }
  }
}

function streamOf({ object, spec }: Seen): StreamSpec | undefined {
  if (spec.stream === undefined) return undefined;
  const { topics, releaseSeconds, takeSeconds } = spec.stream;
  return { name: spec.stream.name ?? object.metadata.name, topics, releaseSeconds, takeSeconds };
}
