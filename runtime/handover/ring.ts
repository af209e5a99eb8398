import type { Outcome } from "./outcome.ts";

/** Shadow outcomes of one partition that were written last, bounded in bytes: what a take-over makes live. */
export class Ring {
  readonly #limit: number;
  #entries: { readonly outcome: Outcome; readonly bytes: number }[] = [];
  #head = 0;
  #bytes = 0;
  #from: bigint;

  /** `from` is the first offset whose outcome will be put in. */
  constructor(limitBytes: number, from: bigint) {
    this.#limit = limitBytes;
    this.#from = from;
  }

  /** Everything from this offset on that was shadow is in the ring. */
  get from(): bigint {
    return this.#from;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Outcomes come in the order of their offsets. */
  push(outcome: Outcome): void {
    let bytes = 200 + (outcome.value?.length ?? 0);
    for (const name in outcome.headers) bytes += name.length + (outcome.headers[name]?.length ?? 0);
    this.#entries.push({ outcome, bytes });
    this.#bytes += bytes;
    while (this.#bytes > this.#limit && this.#head < this.#entries.length) {
      const oldest = this.#entries[this.#head++];
      this.#bytes -= oldest?.bytes ?? 0;
      this.#from = (oldest?.outcome.input.offset ?? 0n) + 1n;
    }
    if (this.#head > 1_000 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
  }

  /** Outcomes with from ≤ offset < to, in order. */
  between(from: bigint, to: bigint): Outcome[] {
    const found: Outcome[] = [];
    for (let i = this.#head; i < this.#entries.length; i++) {
      const outcome = this.#entries[i]?.outcome;
      if (outcome === undefined || outcome.input.offset < from) continue;
      if (outcome.input.offset >= to) break;
      found.push(outcome);
    }
    return found;
  }
}
