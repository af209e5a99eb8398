import { setTimeout as sleep } from "node:timers/promises";
import type { Bus } from "#runtime/bus/port.ts";
import { DEADLINES } from "#runtime/handover/conduct.ts";
import { Conductor, type ConductorEvent } from "#runtime/handover/conductor.ts";
import { ensureDeploymentTopics } from "#runtime/handover/ledger.ts";
import { holdingOf, type LedgerState, type Place, partitionState } from "#runtime/handover/rules.ts";
import { groupOf } from "#runtime/handover/standing.ts";
import type { Effect, StreamView } from "../core/observed.ts";

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
/** Partitions of an input topic are counted anew after this. */
const PLACES_MS = 30_000;

/** A revision that needs longer to commit what has come in is behind. */
const CAUGHT_UP_MS = 1_000;
const CAUGHT_UP_POLL_MS = 50;
/** Markers of transactions at the end of an input are never committed; so few records are no matter. */
const MARGIN = 10n;

interface Open {
  readonly conductor: Promise<Conductor>;
  readonly ready: { conductor?: Conductor };
  moving: { readonly to: string; readonly stop: AbortController } | undefined;
  places: readonly Place[];
  countedAt: number;
}

/** One conductor a deployment, for as long as this operator leads. */
export class Streams {
  readonly #options: StreamsOptions;
  readonly #open = new Map<string, Open>();

  constructor(options: StreamsOptions) {
    this.#options = options;
  }

  /** What the ledger says; not reachable until it has been read once. */
  async view(spec: StreamSpec, now: number): Promise<StreamView> {
    const open = this.#ensure(spec);
    const { conductor } = open.ready;
    const nothing: StreamView = {
      reachable: false,
      halted: false,
      owners: new Map(),
      movingTo: undefined,
      epoch: 0,
    };
    if (conductor === undefined) return nothing;
    try {
      if (now - open.countedAt > PLACES_MS) {
        open.places = await this.#places(spec.topics);
        open.countedAt = now;
      }
    } catch {
      return nothing;
    }
    const { state } = conductor;
    const requested = [...state.requests.values()].at(-1)?.request.to;
    return {
      reachable: now - conductor.lastProgress() < STALE_MS,
      halted: conductor.halted(),
      owners: ownersOf(state, open.places),
      movingTo: open.moving?.to ?? requested,
      epoch: state.epoch,
    };
  }

  /** Begins a hand-over, unless the same is on its way. One to another revision is ended first. */
  route(spec: StreamSpec, { instruments, to, caughtUp }: Effect & { kind: "Route" }): void {
    const { name } = spec;
    const open = this.#ensure(spec);
    if (open.moving?.to === to) return;
    open.moving?.stop.abort();
    const moving = { to, stop: new AbortController() };
    open.moving = moving;
    void (async () => {
      try {
        const conductor = await open.conductor;
        if (caughtUp) await this.#untilCaughtUp(spec, to, moving.stop.signal);
        await conductor.move(instruments, to, open.places, moving.stop.signal);
      } catch (error) {
        if (!moving.stop.signal.aborted) this.#failed(name, open, error);
      } finally {
        if (open.moving === moving) open.moving = undefined;
        this.#options.onChange(name);
      }
    })();
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
    open?.moving?.stop.abort();
    const conductor = await open?.conductor.catch(() => undefined);
    await conductor?.close();
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open.keys()].map((name) => this.forget(name)));
  }

  #ensure(spec: StreamSpec): Open {
    const { name } = spec;
    const known = this.#open.get(name);
    if (known !== undefined) return known;
    const ready: Open["ready"] = {};
    const conductor = this.#start(spec, ready);
    const open: Open = { conductor, ready, moving: undefined, places: [], countedAt: 0 };
    this.#open.set(name, open);
    conductor.then(
      () => this.#options.onChange(name),
      (error: unknown) => this.#failed(name, open, error),
    );
    return open;
  }

  async #start(spec: StreamSpec, ready: Open["ready"]): Promise<Conductor> {
    const { bus, replicas, onChange, onEvent } = this.#options;
    const { name, topics, releaseSeconds, takeSeconds } = spec;
    const places = await this.#places(topics);
    await ensureDeploymentTopics(bus, name, { partitions: Math.max(1, places.length), replicas });
    const conductor = new Conductor({
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
    await conductor.start();
    ready.conductor = conductor;
    return conductor;
  }

  /** A conductor that has failed is thrown away; the next look makes another. */
  #failed(name: string, open: Open, error: unknown): void {
    this.#options.onError(name, error);
    if (this.#open.get(name) === open) void this.forget(name).catch(() => {});
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
