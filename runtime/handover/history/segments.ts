import { type Ledger, REST } from "#runtime/contracts/ledger.ts";
import {
  applyLedger,
  EMPTY_LEDGER,
  type Holding,
  type LedgerState,
  type Place,
  partitionState,
  placeKey,
} from "../rules.ts";

/** Who owned a key from which offset to which. */
export interface Segment {
  readonly revision: string;
  readonly epoch: number;
  readonly from: number;
  /** First offset that it no longer decides; Infinity while it owns. */
  readonly to: number;
}

/** Who owned what, over the whole history: the ledger folded by the same rules as the workers use. */
export class Ownership {
  #state: LedgerState = EMPTY_LEDGER;
  /** By partition and key, in the order of the ledger. */
  readonly #segments = new Map<string, Map<string, Segment[]>>();

  get state(): LedgerState {
    return this.#state;
  }

  apply(record: Ledger): void {
    const before = this.#state;
    this.#state = applyLedger(before, record);
    const places: readonly Place[] =
      record.type === "request" ? record.partitions : "topic" in record ? [record] : [];
    for (const place of places) this.#note(before, place);
  }

  /** The segment that an offset of an instrument lies in; undefined where nobody owned it. */
  at(place: string, instrument: string, offset: number): Segment | undefined {
    const list = this.segments(place, instrument);
    for (let i = list.length - 1; i >= 0; i--) {
      const segment = list[i];
      if (segment !== undefined && offset >= segment.from && offset < segment.to) return segment;
    }
    return undefined;
  }

  segments(place: string, instrument: string): readonly Segment[] {
    const keys = this.#segments.get(place);
    return keys?.get(instrument) ?? keys?.get(REST) ?? [];
  }

  /** Every segment of a partition; one that a key had as one of the rest is there for both. */
  all(place: string): readonly Segment[] {
    return [...(this.#segments.get(place)?.values() ?? [])].flat();
  }

  #note(before: LedgerState, place: Place): void {
    const id = placeKey(place);
    const old = partitionState(before, place).holdings;
    const keys = this.#segments.get(id) ?? new Map<string, Segment[]>();
    this.#segments.set(id, keys);
    const put = (key: string, segment: Segment) => {
      // A key that gets a name has been one of the rest until now.
      const list = keys.get(key) ?? [...(keys.get(REST) ?? [])];
      keys.set(key, list);
      const last = list.at(-1);
      if (last?.epoch === segment.epoch && last.revision === segment.revision)
        list[list.length - 1] = segment;
      else list.push(segment);
    };
    const { holdings, moves } = partitionState(this.#state, place);
    for (const [key, holding] of holdings) if (old.get(key) !== holding) put(key, segmentOf(holding));
    // What a take-over of several transactions has made live so far.
    const [move] = moves;
    if (move?.cut === undefined || move.filled === undefined) return;
    const { to: revision, epoch, cut: from, filled: to } = move;
    for (const key of move.keys) put(key, segmentOf({ revision, epoch, from, to }));
  }
}

function segmentOf({ revision, epoch, from, to }: Holding): Segment {
  return { revision, epoch, from: Number(from), to: to === undefined ? Infinity : Number(to) };
}
