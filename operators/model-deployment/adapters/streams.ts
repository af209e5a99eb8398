import { setTimeout as sleep } from "node:timers/promises";
import type { Bus } from "#runtime/bus/port.ts";
import { DEADLINES } from "#runtime/handover/conduct.ts";
import { Conductor, type ConductorEvent } from "#runtime/handover/conductor.ts";
import { ensureDeploymentTopics } from "#runtime/handover/ledger.ts";
import { holdingOf, type LedgerState, type Place, partitionState } from "#runtime/handover/rules.ts";
import { groupOf } from "#runtime/handover/standing.ts";
import type { Effect, Reports, StreamView } from "../core/observed.ts";

// The ledgers: who decides on what, and hand-overs on their way.

export interface StreamSpec {
  /** Names the ledger. */
  readonly name: string;
  readonly topics: readonly string[];
  readonly releaseSeconds: number;
  readonly takeSeconds: number;
}

export interface StreamsOptions {
  readonly bus: Bus;
  /** Replicas of topics that are made. */
  readonly replicas: number;
  /** Called when a deployment's ledger has changed, or a hand-over has ended. */
  readonly onChange: (name: string) => void;
  readonly onEvent?: (name: string, event: ConductorEvent) => void;
  readonly onError: (name: string, error: unknown) => void;
}

/** Without a sign of life of the ledger for so long what we know is no longer of now. */
const STALE_MS = 5_000;
/** How often it is looked at whether that has come or gone: nothing else happens when Kafka falls silent. */
const WATCH_MS = 500;
/** Partitions of an input topic are counted anew after this. */
const PLACES_MS = 30_000;

/** A revision that needs longer to commit what has come in is behind. */
const CAUGHT_UP_MS = 1_000;
const CAUGHT_UP_POLL_MS = 50;
/** Markers of transactions at the end of an input are never committed; so few records are no matter. */
const MARGIN = 10n;

interface Open {
  readonly spec: StreamSpec;
  readonly conductor: Conductor;
  readonly started: Promise<readonly Place[]>;
  ready: boolean;
  moving: { readonly to: string; readonly stop: AbortController; readonly ended: Promise<void> } | undefined;
  places: readonly Place[];
  countedAt: number;
  /** As it was when it was last looked at. */
  reachable: boolean;
}

/** One conductor a deployment, for as long as this operator leads. */
export class Streams {
  readonly #options: StreamsOptions;
  readonly #open = new Map<string, Open>();
  /** Whose conductor has failed: they get another one with the next look at everything, and not sooner. */
  readonly #lost = new Set<string>();
  readonly #watching: NodeJS.Timeout;

  constructor(options: StreamsOptions) {
    this.#options = options;
    this.#watching = setInterval(() => this.#watch(Date.now()), WATCH_MS);
  }

  /** What the ledger says; not reachable until it has been read once. */
  view(spec: StreamSpec, now: number): StreamView {
    const { conductor, ready, places, moving } = this.#ensure(spec);
    const nothing: StreamView = {
      reachable: false,
      halted: false,
      owners: new Map(),
      movingTo: undefined,
      epoch: 0,
      reports: undefined,
    };
    if (!ready) return nothing;
    const { state } = conductor;
    const requested = [...state.requests.values()].at(-1)?.request.to;
    return {
      reachable: isReachable(conductor, now),
      halted: conductor.halted(),
      owners: ownersOf(state, places),
      movingTo: moving?.to ?? requested,
      epoch: state.epoch,
      reports: reportsOf(state, places),
    };
  }

  /** Begins a hand-over, unless the same is on its way. One to another revision is ended first. */
  route(spec: StreamSpec, { instruments, to, caughtUp }: Effect & { kind: "Route" }): void {
    const { name } = spec;
    const open = this.#ensure(spec);
    const before = open.moving;
    if (before?.to === to) return;
    before?.stop.abort();
    const stop = new AbortController();
    const ended = (async () => {
      try {
        // What it is about to ask for is asked for: this one has to know of it.
        await before?.ended;
        await open.started;
        if (caughtUp) await this.#untilCaughtUp(spec, to, stop.signal);
        await open.conductor.move(instruments, to, open.places, stop.signal);
      } catch (error) {
        if (!stop.signal.aborted) this.#failed(name, open, error);
      } finally {
        if (open.moving?.stop === stop) open.moving = undefined;
        this.#options.onChange(name);
      }
    })();
    open.moving = { to, stop, ended };
  }

  /** A hand-over to a revision that is still to be asked for is not. */
  cancel(name: string, to: string): void {
    const { moving } = this.#open.get(name) ?? {};
    if (moving?.to === to) moving.stop.abort();
  }

  /** Waits until a revision has committed within a second whatever has come in meanwhile. */
  async #untilCaughtUp({ name, topics }: StreamSpec, revision: string, signal: AbortSignal): Promise<void> {
    const admin = await this.#options.bus.admin();
    for (const topic of topics) {
      let since = Date.now();
      let ends = await admin.offsets(topic);
      while (!signal.aborted) {
        const committed = await admin.committed(groupOf(name, revision), topic);
        const behind = [...ends].some(
          ([partition, { latest }]) => (committed.get(partition) ?? 0n) + MARGIN < latest,
        );
        if (!behind && Date.now() - since <= CAUGHT_UP_MS) break;
        if (!behind) {
          since = Date.now();
          ends = await admin.offsets(topic);
        }
        await sleep(CAUGHT_UP_POLL_MS, undefined, { signal }).catch(() => {});
      }
    }
  }

  /** Ends what belongs to a deployment. */
  async forget(name: string): Promise<void> {
    const open = this.#open.get(name);
    this.#open.delete(name);
    this.#lost.delete(name);
    open?.moving?.stop.abort();
    await open?.conductor.close();
  }

  async close(): Promise<void> {
    clearInterval(this.#watching);
    await Promise.all([...this.#open.keys()].map((name) => this.forget(name)));
  }

  #watch(now: number): void {
    const { onChange } = this.#options;
    for (const [name, open] of this.#open) {
      if (!open.ready) continue;
      const { failure } = open.conductor;
      if (failure !== undefined) {
        this.#failed(name, open, failure);
        continue;
      }
      const reachable = isReachable(open.conductor, now);
      if (reachable !== open.reachable) {
        open.reachable = reachable;
        onChange(name);
      }
      if (reachable && now - open.countedAt > PLACES_MS) {
        open.countedAt = now;
        void this.#count(name, open);
      }
    }
    for (const name of this.#lost) {
      this.#open.delete(name);
      onChange(name);
    }
    this.#lost.clear();
  }

  /** Partitions that were added are nobody's yet. */
  async #count(name: string, open: Open): Promise<void> {
    // Kafka away: they are counted the next time.
    const places = await this.#places(open.spec.topics).catch(() => open.places);
    if (places.length === open.places.length) return;
    open.places = places;
    this.#options.onChange(name);
  }

  #ensure(spec: StreamSpec): Open {
    const { name } = spec;
    const known = this.#open.get(name);
    if (known !== undefined) return known;
    const conductor = this.#conductor(spec);
    const open: Open = {
      spec,
      conductor,
      started: this.#start(spec, conductor),
      ready: false,
      moving: undefined,
      places: [],
      countedAt: 0,
      reachable: true,
    };
    this.#open.set(name, open);
    open.started.then(
      (places) => {
        Object.assign(open, { ready: true, places, countedAt: Date.now() });
        this.#options.onChange(name);
      },
      (error: unknown) => this.#failed(name, open, error),
    );
    return open;
  }

  #conductor({ name, releaseSeconds, takeSeconds }: StreamSpec): Conductor {
    const { bus, onChange, onEvent } = this.#options;
    return new Conductor({
      bus,
      deployment: name,
      deadlines: {
        ...DEADLINES,
        releaseMs: releaseSeconds * 1000,
        takeMs: takeSeconds * 1000,
      },
      onEvent: (event) => onEvent?.(name, event),
      onLedger: () => onChange(name),
    });
  }

  async #start({ name, topics }: StreamSpec, conductor: Conductor): Promise<readonly Place[]> {
    const { bus, replicas } = this.#options;
    const places = await this.#places(topics);
    await ensureDeploymentTopics(bus, name, { partitions: Math.max(1, places.length), replicas });
    await conductor.start();
    return places;
  }

  /** A conductor that has failed is of no more use. One that fails as soon as it is made must not be made all the time. */
  #failed(name: string, open: Open, error: unknown): void {
    if (this.#open.get(name) !== open || this.#lost.has(name)) return;
    this.#options.onError(name, error);
    this.#lost.add(name);
    open.ready = false;
    open.moving?.stop.abort();
    void open.conductor.close().catch(() => {});
  }

  async #places(topics: readonly string[]): Promise<readonly Place[]> {
    const admin = await this.#options.bus.admin();
    const counts = await Promise.all(
      topics.map(async (topic) => ({ topic, count: await admin.partitions(topic) })),
    );
    return counts.flatMap(({ topic, count }) =>
      Array.from({ length: count }, (_, partition) => ({ topic, partition })),
    );
  }
}

function isReachable(conductor: Conductor, now: number): boolean {
  return now - conductor.lastProgress() < STALE_MS;
}

/** What the latest workers of each revision say of themselves, an entry a partition. */
function reportsOf(state: LedgerState, places: readonly Place[]): Reports {
  const partitions = places.map((place) => partitionState(state, place));
  const revisions = new Set(partitions.flatMap(({ workers }) => [...workers.keys()]));
  return new Map(
    [...revisions].map((revision) => [revision, partitions.map(({ reports }) => reports.get(revision))]),
  );
}

/** Who decides on each key in all of the partitions; undefined where they differ, or nobody does. */
export function ownersOf(
  state: LedgerState,
  places: readonly Place[],
): ReadonlyMap<string, string | undefined> {
  const owners = new Map<string, string | undefined>();
  const partitions = places.map((place) => partitionState(state, place));
  const keys = new Set(partitions.flatMap(({ holdings }) => [...holdings.keys()]));
  for (const key of keys) {
    const found = partitions.map((partition) => {
      const holding = holdingOf(partition, key);
      return holding?.to === undefined ? holding?.revision : undefined;
    });
    const [first, ...others] = found;
    owners.set(key, others.every((owner) => owner === first) ? first : undefined);
  }
  return owners;
}
