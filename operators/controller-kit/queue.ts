import type { Gauge } from "prom-client";

// Keys that are to be looked at: each once, however often it was asked for, and never by two at once. What is urgent
// comes first, but does not keep the others waiting for ever.

export interface QueueOptions {
  /** How many keys are worked on at once. */
  readonly workers: number;
  /** Looks at a key. It resolves with milliseconds after which to look again, if at all; it must not reject. */
  readonly work: (key: string) => Promise<number | undefined>;
  readonly depth?: Gauge;
}

/** So many urgent keys in a row, then one that is not. */
const URGENT_IN_A_ROW = 8;
/** Longest wait of a key; what lies further ahead is looked at then. */
const MAX_DELAY_MS = 24 * 3_600_000;

export class KeyedQueue {
  readonly #options: QueueOptions;
  /** Waiting keys, in order, with when they were put there. */
  readonly #urgent = new Map<string, number>();
  readonly #waiting = new Map<string, number>();
  #inARow = 0;
  readonly #running = new Map<string, Promise<void>>();
  /** Keys that were asked for while they were worked on, and whether that was urgent. */
  readonly #again = new Map<string, boolean>();
  readonly #later = new Map<string, { readonly at: number; readonly timer: NodeJS.Timeout }>();
  #closed = false;

  constructor(options: QueueOptions) {
    this.#options = options;
  }

  /** Keys that wait, or are worked on. */
  get size(): number {
    return this.#urgent.size + this.#waiting.size + this.#running.size;
  }

  /** Since when the first key has waited; undefined when none does. */
  waitingSince(): number | undefined {
    const [urgent = Infinity] = this.#urgent.values();
    const [waiting = Infinity] = this.#waiting.values();
    const first = Math.min(urgent, waiting);
    return first === Infinity ? undefined : first;
  }

  add(key: string, urgent = false): void {
    if (this.#closed) return;
    const later = this.#later.get(key);
    if (later !== undefined) clearTimeout(later.timer);
    this.#later.delete(key);
    if (this.#running.has(key)) this.#again.set(key, urgent || this.#again.get(key) === true);
    else if (!this.#urgent.has(key)) {
      const since = this.#waiting.get(key) ?? Date.now();
      if (urgent) this.#waiting.delete(key);
      (urgent ? this.#urgent : this.#waiting).set(key, since);
    }
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
    this.#urgent.clear();
    this.#waiting.clear();
    await Promise.all(this.#running.values());
  }

  #pump(): void {
    while (!this.#closed && this.#running.size < this.#options.workers) {
      const key = this.#next();
      if (key === undefined) break;
      this.#running.set(key, this.#run(key));
    }
    this.#options.depth?.set(this.#urgent.size + this.#waiting.size);
  }

  #next(): string | undefined {
    const others = this.#urgent.size === 0 || (this.#inARow >= URGENT_IN_A_ROW && this.#waiting.size > 0);
    const from = others ? this.#waiting : this.#urgent;
    const [key] = from.keys();
    if (key !== undefined) from.delete(key);
    this.#inARow = others ? 0 : this.#inARow + 1;
    return key;
  }

  async #run(key: string): Promise<void> {
    const after = await this.#options.work(key);
    this.#running.delete(key);
    const again = this.#again.get(key);
    this.#again.delete(key);
    if (again !== undefined) this.add(key, again);
    else if (after !== undefined) this.addAfter(key, after);
    this.#pump();
  }
}
