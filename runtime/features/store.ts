import { setTimeout as sleep } from "node:timers/promises";
import { LRUCache } from "lru-cache";
import type { Registry } from "prom-client";
import { MAX_FUTURE_MS } from "#runtime/contracts/admission.ts";
import { connectRedis, type Redis } from "#runtime/redis/index.ts";
import { FeatureError } from "./errors.ts";
import { FeatureMetrics } from "./metrics.ts";
import {
  CLOCK_TOLERANCE_MS,
  type Decoded,
  decodeVector,
  encodeVector,
  type FeatureView,
  freshness,
  schemaHash,
} from "./vector.ts";

/** What a read found. `ageMs` is the time since the event, by the clock that the reader passed in. */
export type FeatureRead =
  | {
      readonly status: "fresh" | "stale";
      readonly values: Float32Array;
      readonly eventTime: number;
      readonly ageMs: number;
    }
  | { readonly status: "expired"; readonly eventTime: number; readonly ageMs: number }
  /** `future`: what is stored is of an event that has not happened yet, by the reader's clock. */
  | { readonly status: "missing"; readonly reason: "absent" | "corrupt" | "schema" | "future" };

/** What became of a write: `older` than what is stored, or of an event in the `future` by Redis's clock. */
export type WriteResult = "written" | "older" | "future";

export interface FeatureWrite {
  readonly entity: string;
  /** Time of the event up to which the values were computed, milliseconds since 1970. */
  readonly eventTime: number;
  readonly values: ArrayLike<number>;
}

export interface FeatureStoreOptions {
  /** redis://[user:password@]host:port[/db] */
  readonly url: string;
  readonly registry: Registry;
  /** Most milliseconds that a command may take. Default 100. */
  readonly timeoutMs?: number;
  /** An event may be ahead of Redis's clock, and of a reader's, by this many milliseconds. Default 5,000. */
  readonly maxFutureMs?: number;
  /** Keeps what was read in the process; writes anywhere drop it. Off by default. */
  readonly cache?: { readonly maxEntries: number; readonly maxAgeMs: number };
}

const DEFAULT_TIMEOUT_MS = 100;
/** Entities in one command; more are sent as several commands in one round trip. */
const CHUNK = 1_000;
const SCAN_COUNT = 500;
/** Redis forgets a vector this long after it has expired for readers. */
const GRACE_MS = 60_000;

/**
 * KEYS: the vectors' keys. ARGV: milliseconds to live, channel for invalidations ("" for none), milliseconds that an event
 * may be ahead of Redis's clock, and that it may be ahead and still stand against an older one; then for each key the
 * vector and the entity. Returns for each key 0 if what is stored is of a later event, 1 if written, 2 if the event lies in
 * the future. The clock is Redis's: the latest time wins, so no writer's clock may say what is possible. What was stored
 * by one that did is written over by the next vector.
 */
const WRITE_SCRIPT = `
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local limit = now + tonumber(ARGV[3])
local tolerated = now + tonumber(ARGV[4])
local result = {}
for i, key in ipairs(KEYS) do
  local vector = ARGV[2 * i + 3]
  local event = struct.unpack('>d', string.sub(vector, 9, 16))
  local stored = redis.call('GETRANGE', key, 8, 15)
  local last = #stored == 8 and struct.unpack('>d', stored) or -1
  if not (event <= limit) then
    result[i] = 2
  elseif last > event and last <= tolerated then
    result[i] = 0
  else
    redis.call('SET', key, vector, 'PX', ARGV[1])
    if ARGV[2] ~= '' then redis.call('PUBLISH', ARGV[2], ARGV[2 * i + 4]) end
    result[i] = 1
  end
end
return result
`;

/** By the numbers that the script returns. */
const WRITE_RESULTS: readonly WriteResult[] = ["older", "written", "future"];

interface ScriptedRedis extends Redis {
  batonWrite(keys: number, ...args: (string | Buffer)[]): Promise<number[]>;
}

/** The feature store: the newest vector of each entity and view version, in Redis. */
export class FeatureStore {
  readonly #redis: ScriptedRedis;
  readonly #options: FeatureStoreOptions;
  readonly #metrics: FeatureMetrics;
  #subscriber: Redis | undefined;

  constructor(options: FeatureStoreOptions) {
    this.#options = options;
    this.#metrics = new FeatureMetrics(options.registry);
    this.#redis = connectRedis(options.url, options.timeoutMs ?? DEFAULT_TIMEOUT_MS) as ScriptedRedis;
    this.#redis.defineCommand("batonWrite", { lua: WRITE_SCRIPT });
  }

  /** Resolves when connected; rejects with UNAVAILABLE after the time-out. Reading and writing need not wait. */
  async connect(timeoutMs = 5_000): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (this.#redis.status !== "ready") {
      if (Date.now() > deadline) throw new FeatureError("UNAVAILABLE", `not connected after ${timeoutMs} ms`);
      await sleep(10);
    }
  }

  /** Opens a view for reading and writing. */
  view(view: FeatureView): FeatureViewStore {
    const maxFutureMs = this.#options.maxFutureMs ?? MAX_FUTURE_MS;
    return new FeatureViewStore(view, this.#redis, this.#metrics, maxFutureMs, this.#openCache(view));
  }

  /** Rejects when Redis does not answer. For readiness checks. */
  async ping(): Promise<void> {
    await attempt(this.#metrics, "ping", () => this.#redis.ping());
  }

  async close(): Promise<void> {
    this.#subscriber?.disconnect();
    this.#redis.disconnect();
  }

  #openCache(view: FeatureView): ViewCache | undefined {
    const { cache } = this.#options;
    if (cache === undefined) return undefined;
    this.#subscriber ??= connectRedis(this.#options.url);
    return new ViewCache(this.#subscriber, channelOf(view), cache.maxEntries, cache.maxAgeMs);
  }
}

function prefixOf(view: Pick<FeatureView, "name" | "version">): string {
  return `f:${view.name}:${view.version}:`;
}

function channelOf(view: FeatureView): string {
  return `f-written:${view.name}:${view.version}`;
}

/** Reads and writes vectors of one view version. */
export class FeatureViewStore {
  readonly view: FeatureView;
  readonly #hash: number;
  readonly #prefix: string;
  readonly #redis: ScriptedRedis;
  readonly #metrics: FeatureMetrics;
  readonly #maxFutureMs: number;
  readonly #cache: ViewCache | undefined;

  constructor(
    view: FeatureView,
    redis: ScriptedRedis,
    metrics: FeatureMetrics,
    maxFutureMs: number,
    cache: ViewCache | undefined,
  ) {
    this.view = view;
    this.#hash = schemaHash(view);
    this.#prefix = prefixOf(view);
    this.#redis = redis;
    this.#metrics = metrics;
    this.#maxFutureMs = maxFutureMs;
    this.#cache = cache;
  }

  /**
   * Writes vectors; one that is older than what is stored changes nothing, nor does one of the future. Each vector is
   * atomic. Returns for each what became of it. Throws FeatureError.
   */
  async write(writes: readonly FeatureWrite[]): Promise<readonly WriteResult[]> {
    const { name, ttlMs } = this.view;
    const vectors = writes.map((write) => encodeVector(this.view, this.#hash, write.eventTime, write.values));
    const results: number[] = [];
    const end = this.#metrics.seconds.startTimer({ operation: "write" });
    for (let start = 0; start < writes.length; start += CHUNK) {
      const chunk = writes.slice(start, start + CHUNK);
      const bounds = [String(this.#maxFutureMs), String(CLOCK_TOLERANCE_MS)];
      const args: (string | Buffer)[] = [String(ttlMs + GRACE_MS), channelOf(this.view), ...bounds];
      for (const [i, write] of chunk.entries()) args.push(vectors[start + i] as Buffer, write.entity);
      const keys = chunk.map((write) => this.#prefix + write.entity);
      const written = await attempt(this.#metrics, "write", () =>
        this.#redis.batonWrite(keys.length, ...keys, ...args),
      );
      results.push(...written);
    }
    end();
    const told = results.map((result) => WRITE_RESULTS[result] ?? "older");
    for (const result of WRITE_RESULTS) {
      this.#metrics.writes.inc({ view: name, result }, told.filter((entry) => entry === result).length);
    }
    return told;
  }

  /** Reads the vectors of entities in one round trip, in their order. Throws FeatureError. */
  async read(entities: readonly string[], now: number): Promise<readonly FeatureRead[]> {
    const decoded =
      this.#cache === undefined
        ? await this.#fetch(entities)
        : await this.#throughCache(entities, this.#cache);
    const reads = decoded.map((entry) => this.#judge(entry, now));
    for (const read of reads) this.#metrics.reads.inc({ view: this.view.name, status: read.status });
    return reads;
  }

  /** Deletes the vectors of all other versions below `keepFrom`; returns how many keys went. */
  async dropVersionsBelow(keepFrom: number): Promise<number> {
    let dropped = 0;
    for (let version = 1; version < keepFrom; version++) {
      const match = `${prefixOf({ name: this.view.name, version })}*`;
      let cursor = "0";
      do {
        const [next, keys] = await attempt(this.#metrics, "clean", () =>
          this.#redis.scan(cursor, "MATCH", match, "COUNT", SCAN_COUNT),
        );
        if (keys.length > 0)
          dropped += await attempt(this.#metrics, "clean", () => this.#redis.unlink(...keys));
        cursor = next;
      } while (cursor !== "0");
    }
    return dropped;
  }

  async #fetch(entities: readonly string[]): Promise<(Decoded | undefined)[]> {
    if (entities.length === 0) return [];
    const end = this.#metrics.seconds.startTimer({ operation: "read" });
    const requests: Promise<(Buffer | null)[]>[] = [];
    for (let start = 0; start < entities.length; start += CHUNK) {
      const keys = entities.slice(start, start + CHUNK).map((entity) => this.#prefix + entity);
      requests.push(attempt(this.#metrics, "read", () => this.#redis.mgetBuffer(keys)));
    }
    const chunks = await Promise.all(requests);
    end();
    return chunks.flat().map((raw) => (raw === null ? undefined : decodeVector(this.view, this.#hash, raw)));
  }

  async #throughCache(entities: readonly string[], cache: ViewCache): Promise<(Decoded | undefined)[]> {
    const ticket = cache.ticket();
    const found = entities.map((entity) => cache.get(entity));
    const missing = entities.filter((_, i) => found[i] === undefined);
    const fetched = new Map<string, Decoded | undefined>();
    for (const [i, entry] of (await this.#fetch(missing)).entries()) {
      const entity = missing[i] as string;
      fetched.set(entity, entry);
      if (entry !== undefined) cache.set(entity, entry, ticket);
    }
    return entities.map((entity, i) => found[i] ?? fetched.get(entity));
  }

  #judge(entry: Decoded | undefined, now: number): FeatureRead {
    if (entry === undefined) return { status: "missing", reason: "absent" };
    if (!entry.ok) return { status: "missing", reason: entry.reason };
    const { eventTime, values } = entry;
    const ageMs = now - eventTime;
    const status = freshness(this.view, ageMs, this.#maxFutureMs);
    if (status === "future") return { status: "missing", reason: status };
    return status === "expired" ? { status, eventTime, ageMs } : { status, values, eventTime, ageMs };
  }
}

/**
 * Vectors in the process, dropped when somebody writes. Used only while the subscription stands: without it
 * nothing would be dropped.
 */
class ViewCache {
  readonly #entries: LRUCache<string, Decoded>;
  #listening = false;
  #generation = 0;

  constructor(subscriber: Redis, channel: string, max: number, maxAgeMs: number) {
    this.#entries = new LRUCache({ max, ttl: maxAgeMs });
    const forgetAll = () => {
      this.#listening = false;
      this.#generation += 1;
      this.#entries.clear();
    };
    const listen = () => {
      subscriber.subscribe(channel).then(
        () => {
          this.#listening = true;
        },
        () => forgetAll(),
      );
    };
    subscriber.on("message", (from, entity) => {
      if (from !== channel) return;
      this.#generation += 1;
      this.#entries.delete(entity);
    });
    subscriber.on("ready", listen);
    subscriber.on("close", forgetAll);
    if (subscriber.status === "ready") listen();
  }

  /** Marks the moment of a read: what was read before a write was told of is not kept. */
  ticket(): number {
    return this.#generation;
  }

  get(entity: string): Decoded | undefined {
    return this.#listening ? this.#entries.get(entity) : undefined;
  }

  set(entity: string, entry: Decoded, ticket: number): void {
    if (this.#listening && ticket === this.#generation) this.#entries.set(entity, entry);
  }
}

async function attempt<T>(metrics: FeatureMetrics, operation: string, command: () => Promise<T>): Promise<T> {
  try {
    return await command();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const code = /timed out/i.test(message)
      ? "TIMEOUT"
      : error instanceof Error && error.name === "ReplyError"
        ? "REFUSED"
        : "UNAVAILABLE";
    metrics.errors.inc({ operation, code });
    throw new FeatureError(code, `${operation}: ${message}`, { cause: error });
  }
}
