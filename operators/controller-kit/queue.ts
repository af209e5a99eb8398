import type { Gauge } from "prom-client";

// Keys that are to be looked at: each once, however often it was asked for, and never by two at once.

export interface QueueOptions {
  /** How many keys are worked on at once. */
  readonly workers: number;
  /** Looks at a key. It resolves with milliseconds after which to look again, if at all; it must not reject. */
  readonly work: (key: string) => Promise<number | undefined>;
  readonly depth?: Gauge;
}

/** Longest wait of a key; what lies further ahead is looked at then. */
const MAX_DELAY_MS = 24 * 3_600_000;

export class KeyedQueue {
  readonly #options: QueueOptions;
  /** Waiting keys, in order, with when they were put there. */
  readonly #waiting = new Map<string, number>();
  readonly #running = new Map<string, Promise<void>>();
  /** Keys that were asked for while they were worked on. */
  readonly #again = new Set<string>();
  readonly #later = new Map<string, { readonly at: number; readonly timer: NodeJS.Timeout }>();
  #closed = false;

  constructor(options: QueueOptions) {
    this.#options = options;
  }

  /** Keys that wait, or are worked on. */
  get size(): number {
    return this.#waiting.size + this.#running.size;
  }

  /** Since when the first key has waited; undefined when none does. */
  waitingSince(): number | undefined {
    return this.#waiting.values().next().value;
  }

  add(key: string): void {
    if (this.#closed) return;
    const later = this.#later.get(key);
    if (later !== undefined) clearTimeout(later.timer);
    this.#later.delete(key);
    if (this.#running.has(key)) this.#again.add(key);
    else if (!this.#waiting.has(key)) this.#waiting.set(key, Date.now());
    this.#pump();
  }

  /** Adds a key after a while, or earlier where that has been asked for before. */
  addAfter(key: string, ms: number): void {
    if (this.#closed) return;
    const wait = Math.min(Math.max(0, ms), MAX_DELAY_MS);
    const at = Date.now() + wait;
    const known = this.#later.get(key);
    if (known !== undefined && known.at <= at) return;
    if (known !== undefined) clearTimeout(known.timer);
    this.#later.set(key, { at, timer: setTimeout(() => this.add(key), wait) });
  }

  /** Nothing new begins; resolves when what runs has ended. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { timer } of this.#later.values()) clearTimeout(timer);
    this.#later.clear();
    this.#waiting.clear();
    await Promise.all(this.#running.values());
  }

  #pump(): void {
    for (const key of this.#waiting.keys()) {
      if (this.#closed || this.#running.size >= this.#options.workers) break;
      this.#waiting.delete(key);
      this.#running.set(key, this.#run(key));
    }
    this.#options.depth?.set(this.#waiting.size);
  }

  async #run(key: string): Promise<void> {
    const after = await this.#options.work(key);
    this.#running.delete(key);
    if (this.#again.delete(key)) this.add(key);
    else if (after !== undefined) this.addAfter(key, after);
    this.#pump();
  }
}
