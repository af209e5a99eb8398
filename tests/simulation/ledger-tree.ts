import type { Ledger } from "#runtime/contracts/ledger.ts";
import {
  applyLedger,
  EMPTY_LEDGER,
  type LedgerState,
  type Place,
  partitionState,
} from "#runtime/handover/rules.ts";

// Every ledger that a search has come across.

/**
 * What a prefix of the ledger says; ledgers that say the same, such as by records of two partitions in either order, are
 * one. Readers read to the end at once: whoever lags is one that read earlier.
 */
export interface Node {
  readonly id: number;
  readonly state: LedgerState;
  /** What it says of each partition, as a number: all that the workers of the partition go by. */
  readonly parts: readonly number[];
  /** The records that led here, newest first. */
  readonly parent: Node | undefined;
  readonly record: Ledger | undefined;
  readonly children: Map<string, Node>;
}

export class LedgerTree {
  readonly #places: readonly Place[];
  readonly #nodes = new Map<string, Node>();
  readonly #parts = new Map<string, number>();

  constructor(places: readonly Place[]) {
    this.#places = places;
  }

  empty(): Node {
    return this.#node(EMPTY_LEDGER, undefined, undefined);
  }

  append(to: Node, record: Ledger): Node {
    const key = JSON.stringify(record);
    let child = to.children.get(key);
    if (child === undefined) {
      child = this.#node(applyLedger(to.state, record), to, record);
      to.children.set(key, child);
    }
    return child;
  }

  #node(state: LedgerState, parent: Node | undefined, record: Ledger | undefined): Node {
    const key = textOf(state);
    let node = this.#nodes.get(key);
    if (node === undefined) {
      const parts = this.#places.map((place) => {
        const part = textOf(partitionState(state, place));
        const id = this.#parts.get(part) ?? this.#parts.size + 1;
        this.#parts.set(part, id);
        return id;
      });
      node = { id: this.#nodes.size + 1, state, parts, parent, record, children: new Map() };
      this.#nodes.set(key, node);
    }
    return node;
  }
}

function textOf(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => {
    if (typeof part === "bigint") return String(part);
    return part instanceof Map ? [...part].toSorted(([a], [b]) => (a < b ? -1 : 1)) : part;
  });
}

export function startedRecord(revision: string, { topic, partition }: Place, offset: bigint): Ledger {
  return { type: "started", at: 0, revision, topic, partition, offset: String(offset) };
}

export function releasedRecord(
  revision: string,
  { topic, partition }: Place,
  epoch: number,
  cut: bigint,
): Ledger {
  return { type: "released", at: 0, epoch, revision, topic, partition, cut: String(cut), forced: false };
}
