import type { Ledger } from "#runtime/contracts/ledger.ts";
import { placeKey } from "../rules.ts";

/** Where a revision's computing of a partition begins. */
export interface Beginning {
  readonly offset: number;
  /** Where it had come to when it was there before; undefined where it had not been there. */
  readonly left: number | undefined;
}

/** The beginnings that a ledger knows: of a compacted one the last of each revision and partition. */
export class Beginnings {
  readonly #places = new Map<string, Map<string, Beginning[]>>();

  add(record: Ledger): void {
    if (record.type !== "started") return;
    const { revision, offset, left } = record;
    const place = placeKey(record);
    const revisions = this.#places.get(place) ?? new Map<string, Beginning[]>();
    this.#places.set(place, revisions);
    const list = revisions.get(revision) ?? [];
    revisions.set(revision, list);
    // As the rules have it: one that does not lie further changes nothing.
    if (Number(offset) <= (list.at(-1)?.offset ?? -1)) return;
    list.push({ offset: Number(offset), left: left === undefined ? undefined : Number(left) });
  }

  /** By revision, in the order in which they came. */
  of(place: string): ReadonlyMap<string, readonly Beginning[]> {
    return this.#places.get(place) ?? new Map();
  }
}
