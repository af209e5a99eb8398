import type { Gauge } from "prom-client";

// Keys that are to be looked at: each once, however often it was asked for, and never by two at once. What is urgent
// comes first, alone for a second, and finds somebody free where the others are bounded; one worker is always theirs.

export interface QueueOptions {
  /** How many keys are worked on at once. */
  readonly workers: number;
  /** How many of them at once may be keys that are not urgent; all when absent. */
  readonly others?: number;
  /** Looks at a key. It resolves with milliseconds after which to look again, if at all; it must not reject. */
  readonly work: (key: string) => Promise<number | undefined>;
  readonly depth?: Gauge;
}

/** Longest wait of a key; what lies further ahead is looked at then. */
const MAX_DELAY_MS = 24 * 3_600_000;
/** Where the wait is no number, which is a fault of who says it: neither at once, again and again, nor in a day. */
const UNKNOWN_DELAY_MS = 60_000;
/** What is not urgent lets what is go first for so long. */
const PATIENCE_MS = 1_000;

export class KeyedQueue {
  readonly #options: QueueOptions;
  /** Waiting keys, in order, with when they were put there. */
  readonly #urgent = new Map<string, number>();
  readonly #waiting = new Map<string, number>();
  readonly #running = new Map<string, Promise<void>>();
  readonly #runningUrgent = new Set<string>();
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
    const wait = Number.isNaN(ms) ? UNKNOWN_DELAY_MS : Math.min(Math.max(0, ms), MAX_DELAY_MS);
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
      const urgent = this.#isUrgentNext();
      const from = urgent ? this.#urgent : this.#waiting;
      const [key] = from.keys();
      if (key === undefined) break;
      from.delete(key);
      if (urgent) this.#runningUrgent.add(key);
      this.#running.set(key, this.#run(key));
    }
    this.#options.depth?.set(this.#urgent.size + this.#waiting.size);
  }

  #isUrgentNext(): boolean {
    const { workers, others: bound = workers } = this.#options;
    const others = this.#running.size - this.#runningUrgent.size;
    // What the others ask of the API server would keep what is urgent waiting for it; they do not wait for ever.
    const [since = Infinity] = this.#waiting.values();
    const patient = this.#runningUrgent.size > 0 && Date.now() - since < PATIENCE_MS;
    const most = patient ? 0 : bound;
    // The last free worker is for those who have none.
    const last = this.#running.size === workers - 1 && others === 0 && this.#waiting.size > 0;
    return !last && (this.#urgent.size > 0 || others >= most);
  }

  async #run(key: string): Promise<void> {
    const after = await this.#options.work(key);
    this.#running.delete(key);
    this.#runningUrgent.delete(key);
    const again = this.#again.get(key);
    this.#again.delete(key);
    if (again !== undefined) this.add(key, again);
    else if (after !== undefined) this.addAfter(key, after);
    this.#pump();
  }
}
