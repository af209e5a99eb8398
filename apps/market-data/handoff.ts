interface Offer<T> {
  readonly value: T;
  readonly taken: () => void;
}

/** Passes values from several writers to one reader. A writer waits until its value is taken, so each has one at most. */
export class Handoff<T> {
  readonly #offers: Offer<T>[] = [];
  #failure: { readonly error: unknown } | undefined;
  #wake = () => {};

  /** Resolves when the value is taken; after the reader has ended, never. */
  give(value: T): Promise<void> {
    return new Promise((taken) => {
      this.#offers.push({ value, taken });
      this.#wake();
    });
  }

  /** The reader ends with this, after what has been given. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#wake();
  }

  /** The values in the order in which they were given, until the signal is aborted. */
  async *taken(stop: AbortSignal): AsyncIterable<T> {
    const wake = () => this.#wake();
    stop.addEventListener("abort", wake, { once: true });
    try {
      while (!stop.aborted) {
        const offer = this.#offers.shift();
        if (offer !== undefined) {
          yield offer.value;
          offer.taken();
        } else if (this.#failure !== undefined) throw this.#failure.error;
        else
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
      }
    } finally {
      stop.removeEventListener("abort", wake);
    }
  }
}
