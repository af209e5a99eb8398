import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { BusError } from "#runtime/bus/errors.ts";
import type { Bus } from "#runtime/bus/port.ts";
import { Halt } from "#runtime/contracts/ledger.ts";
import { connectRedis } from "#runtime/redis/index.ts";
import { inForce, isPlausible, nextSequence, supersedes } from "./halt-order.ts";
import { haltRecord, type LedgerFollower } from "./ledger.ts";

// The kill switch. It is kept in Kafka and, so that it works while one of the two is away, in Redis as well. The state
// with the highest sequence number is in force (halt-order.ts); a worker that finds a newer one in Redis writes it to Kafka.

const POLL_MS = 250;
const TIMEOUT_MS = 400;

/** The copy of the kill switch outside Kafka. */
export interface HaltCache {
  /** Rejects when the cache does not answer. */
  get(): Promise<Halt | undefined>;
  set(halt: Halt): Promise<void>;
  close(): void;
}

/** The kill switch's copy in Redis, under `baton:halt:<deployment>`. */
export function redisHaltCache(url: string, deployment: string): HaltCache {
  const key = `baton:halt:${deployment}`;
  const redis = connectRedis(url, TIMEOUT_MS);
  return {
    async get() {
      const text = await redis.get(key);
      if (text === null) return undefined;
      const parsed = Halt.schema.safeParse(parseJson(text));
      return parsed.success ? parsed.data : undefined;
    },
    async set(halt) {
      // A new connection takes a moment; without one a command fails at once.
      for (let tries = 0; redis.status !== "ready" && tries < 100; tries++) await sleep(10);
      await redis.set(key, JSON.stringify(halt));
    },
    close: () => redis.disconnect(),
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export interface HaltSwitchOptions {
  readonly bus: Bus;
  readonly deployment: string;
  readonly follower: LedgerFollower;
  readonly cache: HaltCache;
  readonly log: Logger;
}

/** A worker's view of the kill switch, never older than a fraction of a second. */
export class HaltSwitch {
  readonly #options: HaltSwitchOptions;
  #cached: Halt | undefined;
  #mirrored = 0;
  #timer: NodeJS.Timeout | undefined;
  #told: number | undefined;
  #refused: number | undefined;

  constructor(options: HaltSwitchOptions) {
    this.#options = options;
  }

  /** Asks the cache once, then keeps asking. A cache that is away is no obstacle. */
  async start(): Promise<void> {
    await this.#poll();
    this.#timer = setInterval(() => void this.#poll(), POLL_MS);
  }

  /** Whether live decisions are withheld, by what is known now. */
  halted(): boolean {
    const halt = inForce(Date.now(), this.#options.follower.halt, this.#cached);
    if (halt !== undefined && halt.sequence !== this.#told) {
      this.#told = halt.sequence;
      const text = halt.halted ? "halted: live decisions are withheld" : "halt released";
      this.#options.log.warn({ reason: halt.reason, sequence: halt.sequence }, text);
    }
    return halt?.halted ?? false;
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#options.cache.close();
  }

  /** What the cache has now was written after what it had before. */
  #take(found: Halt, now: number): void {
    if (supersedes(found, this.#cached, now)) this.#cached = found;
    else if (
      !isPlausible(found, now) &&
      found.sequence !== this.#cached?.sequence &&
      found.sequence !== this.#refused
    ) {
      this.#refused = found.sequence;
      const text = "a release that is numbered in the future is not taken: release again with a right clock";
      this.#options.log.warn({ reason: found.reason, sequence: found.sequence }, text);
    }
  }

  async #poll(): Promise<void> {
    const found = await this.#options.cache.get().catch(() => undefined);
    const now = Date.now();
    if (found !== undefined) this.#take(found, now);
    const halt = this.#cached;
    const before = this.#mirrored;
    if (halt === undefined || halt.sequence === before) return;
    if (!supersedes(halt, this.#options.follower.halt, now)) return;
    // Redis may forget; Kafka does not.
    this.#mirrored = halt.sequence;
    await writeHalt(this.#options.bus, this.#options.deployment, halt).catch((error: unknown) => {
      this.#mirrored = before;
      this.#options.log.warn({ err: error }, "the halt cannot be written to Kafka yet");
    });
  }
}

async function writeHalt(bus: Bus, deployment: string, halt: Halt): Promise<void> {
  const producer = await bus.producer({ lingerMs: 0 });
  try {
    await producer.send(haltRecord(deployment, halt));
  } finally {
    await producer.close();
  }
}

export interface HaltResult {
  readonly halt: Halt;
  /** Where it was written; at least one. */
  readonly kafka: boolean;
  readonly redis: boolean;
}

/**
 * Sets or releases the kill switch in Kafka and in Redis, each within `timeoutMs`. Rejects when neither took it.
 * `known` is what is in force as far as the caller could read.
 */
export async function setHalt(
  bus: Bus,
  deployment: string,
  cache: HaltCache,
  change: { readonly halted: boolean; readonly reason: string; readonly known: Halt | undefined },
  timeoutMs = 5_000,
): Promise<HaltResult> {
  const cached = await cache.get().catch(() => undefined);
  const at = Date.now();
  const sequence = nextSequence(at, change.known, cached);
  const halt: Halt = { halted: change.halted, reason: change.reason, sequence, at };
  const within = (work: Promise<void>) =>
    Promise.race([
      work.then(
        () => true,
        () => false,
      ),
      sleep(timeoutMs, false, { ref: false }),
    ]);
  const [kafka, redis] = await Promise.all([
    within(writeHalt(bus, deployment, halt)),
    within(cache.set(halt)),
  ]);
  if (!kafka && !redis) throw new BusError("BROKER_UNAVAILABLE", "neither Kafka nor Redis took it");
  return { halt, kafka, redis };
}
