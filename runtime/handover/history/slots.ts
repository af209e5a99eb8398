import { type Place, placeKey } from "../rules.ts";

// What is kept in memory of a history.

/** Names as small numbers. */
export class Names {
  readonly #ids = new Map<string, number>();
  readonly #names: string[] = [];

  id(name: string): number {
    let id = this.#ids.get(name);
    if (id === undefined) {
      id = this.#names.push(name);
      this.#ids.set(name, id);
    }
    return id;
  }

  name(id: number): string {
    return this.#names[id - 1] ?? "";
  }
}

/** One partition of the input: a slot for each offset from the first one that is kept. */
export class PartitionHistory {
  readonly place: Place;
  readonly id: string;
  base = -1;
  /** Slots that are in use, and those up to the last input record that was read. */
  length = 0;
  inputs = 0;
  /** Instrument of the input record; 0 where there is none. */
  instruments = new Uint32Array(1024);
  /** Instrument, revision and epoch of the live outcome; 0 where there is none. */
  outcomes = new Uint32Array(1024);
  owners = new Uint16Array(1024);
  epochs = new Uint32Array(1024);
  /** By revision: which offsets it has an outcome for. */
  readonly covered = new Map<number, Uint8Array>();
  /** By revision: when its outcome of the highest offset was written. */
  readonly latest = new Map<number, { readonly offset: number; readonly time: number }>();

  constructor(place: Place) {
    this.place = place;
    this.id = placeKey(place);
  }

  /** The slot of an offset; -1 for one from before what is kept of the input. */
  slot(offset: number): number {
    if (this.base < 0 || offset < this.base) return -1;
    const slot = offset - this.base;
    if (slot >= this.instruments.length) this.#grow(slot);
    if (slot >= this.length) this.length = slot + 1;
    return slot;
  }

  #grow(slot: number): void {
    const size = Math.max(slot + 1, this.instruments.length * 2);
    const copy = <T extends Uint8Array | Uint16Array | Uint32Array>(larger: T, old: T): T => {
      larger.set(old);
      return larger;
    };
    this.instruments = copy(new Uint32Array(size), this.instruments);
    this.outcomes = copy(new Uint32Array(size), this.outcomes);
    this.owners = copy(new Uint16Array(size), this.owners);
    this.epochs = copy(new Uint32Array(size), this.epochs);
    for (const [revision, old] of this.covered) this.covered.set(revision, copy(new Uint8Array(size), old));
  }

  cover(revision: number, slot: number, time: number): void {
    const offset = this.base + slot;
    if (offset >= (this.latest.get(revision)?.offset ?? 0)) this.latest.set(revision, { offset, time });
    let covered = this.covered.get(revision);
    if (covered === undefined || slot >= covered.length) {
      const larger = new Uint8Array(this.instruments.length);
      if (covered !== undefined) larger.set(covered);
      covered = larger;
      this.covered.set(revision, covered);
    }
    covered[slot] = 1;
  }
}
