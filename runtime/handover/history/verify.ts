import type { Ledger } from "#runtime/contracts/ledger.ts";
import type { ReadOutcome } from "../outcome.ts";
import { type Place, placeKey } from "../rules.ts";
import { type Beginning, Beginnings } from "./beginnings.ts";
import { Ownership, type Segment } from "./segments.ts";
import { Names, PartitionHistory } from "./slots.ts";

/** What must hold of a history. */
export const RULES = {
  H1: "each input record has exactly one live outcome",
  H2: "the outcome is that of the revision that owned the instrument there",
  H3: "the revision changes only at a recorded cut",
  H4: "epochs never fall in the order of the output",
  H5: "the order of the output is the order of the input, for each instrument",
  H6: "nothing of a transaction that was not committed is read: the committed offset follows the outcomes",
  H7: "the committed offset is not beyond the last outcome's + 1 and never goes back",
  H8: "from where it began, each revision has an outcome for every record, but for those that it says it left out, none of them its own",
} as const;
export type Rule = keyof typeof RULES;

export interface Violation {
  readonly rule: Rule;
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
  readonly detail: string;
}

export interface Verdict {
  readonly ok: boolean;
  readonly counts: {
    readonly inputs: number;
    readonly live: number;
    readonly rejected: number;
    readonly withheld: number;
    readonly shadow: number;
    readonly handovers: number;
    readonly forced: number;
    /** Inputs that the owner has not committed yet. */
    readonly pending: number;
    /** Inputs from before anybody owned the instrument. */
    readonly unowned: number;
  };
  /** From an owner's release to the commit that takes over, in milliseconds, by partition; clocks of both compared. */
  readonly pauseMs: { readonly p50: number; readonly p99: number; readonly max: number } | undefined;
  /** How often each rule is broken. */
  readonly broken: Readonly<Record<Rule, number>>;
  /** The first breaches of each rule. */
  readonly violations: readonly Violation[];
}

/** Breaches of one rule that are kept with their place. */
const KEPT = 10;
const NO_EPOCH = 0;
/** A worker commits its position each 250 ms (ADR 23), and a transaction ends within 15 s. */
const LATE_MS = 30_000;

/** What a revision has committed of a partition. */
export interface Committed {
  readonly offset: number;
  /** When the outcomes that were committed with it were made, by the worker's clock; 0 where it does not say. */
  readonly at: number;
}
type CommittedOf = (revision: string, place: Place) => Committed | undefined;

interface Stream {
  offset: number;
  epoch: number;
  /** Where in its topic the record lies. */
  at: string;
}

/** Where a record lies that carries an outcome. */
export type Source = "live" | "dead" | "shadow";

/**
 * Checks a deployment's history against H1 to H8. Records are given topic by topic, each partition in its order, the
 * input first; memory is some 20 bytes for each input record. Order and epochs are checked as records come, everything
 * else in one pass at the end.
 */
export class HistoryChecker {
  readonly #ownership = new Ownership();
  /** The same as it was before the positions were read. */
  readonly #known = new Ownership();
  readonly #beginnings = new Beginnings();
  readonly #partitions = new Map<string, PartitionHistory>();
  readonly #instruments = new Names();
  readonly #revisions = new Names();
  /** Latest of each stream whose order counts. */
  readonly #streams = new Map<string, Stream>();
  readonly #broken: Record<Rule, number> = { H1: 0, H2: 0, H3: 0, H4: 0, H5: 0, H6: 0, H7: 0, H8: 0 };
  readonly #violations: Violation[] = [];
  /** When what was asked for was released, by epoch and partition. */
  readonly #released = new Map<string, number>();
  readonly #pauses: number[] = [];
  readonly #counts = {
    inputs: 0,
    live: 0,
    rejected: 0,
    withheld: 0,
    shadow: 0,
    handovers: 0,
    forced: 0,
    pending: 0,
    unowned: 0,
  };

  /** A record that the ledger had before the positions were read that `finish` gets as `before`. */
  addKnown(record: Ledger): void {
    this.#known.apply(record);
  }

  /** A record of the ledger as it is in the end, those that were known included. */
  addLedger(record: Ledger): void {
    this.#ownership.apply(record);
    this.#beginnings.add(record);
    if (record.type === "released") {
      if (record.forced) this.#counts.forced += 1;
      this.#released.set(`${record.epoch} ${placeKey(record)}`, record.at);
    }
    if (record.type !== "taken") return;
    this.#counts.handovers += 1;
    const released = this.#released.get(`${record.epoch} ${placeKey(record)}`);
    if (released !== undefined) this.#pauses.push(record.at - released);
  }

  /** An input record, by its partition and in its order. */
  addInput(place: Place, offset: number, key: string | undefined): void {
    const partition = this.#partition(place);
    if (partition.base < 0) partition.base = offset;
    const slot = partition.slot(offset);
    partition.instruments[slot] = this.#instruments.id(key ?? "");
    partition.inputs = slot + 1;
    this.#counts.inputs += 1;
  }

  /** An outcome, by the partition of the topic it lies in and in its order there, with its record's time. */
  addOutcome(source: Source, outcome: ReadOutcome, time: number, at = ""): void {
    const { topic, partition, action, kind } = outcome;
    const offset = Number(outcome.offset);
    const history = this.#partition({ topic, partition });
    const slot = history.slot(offset);
    // From before what is kept of the input.
    if (slot < 0) return;
    const revision = this.#revisions.id(outcome.revision);
    history.cover(revision, slot, time);
    this.#checkOrder(source, outcome, history, offset, at);
    // What came in after the input was read is counted by the next check.
    const counted =
      action === "shadow" || action === "withheld" ? action : kind === "rejected" ? kind : "live";
    if (slot < history.inputs) this.#counts[counted] += 1;
    if (action === "shadow") return;
    if (history.outcomes[slot] !== 0) {
      const first = this.#revisions.name(history.owners[slot] ?? 0);
      this.#break("H1", history, offset, `decided twice, by ${first} and ${outcome.revision}`);
      return;
    }
    history.outcomes[slot] = this.#instruments.id(outcome.instrument);
    history.owners[slot] = revision;
    history.epochs[slot] = outcome.epoch ?? NO_EPOCH;
  }

  /**
   * The verdict. `before` and `after` are the committed offsets of each revision, read before and after the outcomes:
   * what had been committed before must be there, and what is there must have been committed after, but for the latest.
   */
  finish(before: CommittedOf, after: CommittedOf): Verdict {
    for (const history of this.#partitions.values()) {
      this.#checkOwners(history, before);
      this.#checkRevisions(history, before, after);
    }
    const total = Object.values(this.#broken).reduce((sum, count) => sum + count, 0);
    const sorted = this.#pauses.toSorted((a, b) => a - b);
    const quantile = (share: number) => sorted[Math.ceil(share * sorted.length) - 1] ?? 0;
    return {
      ok: total === 0,
      counts: this.#counts,
      pauseMs:
        sorted.length === 0 ? undefined : { p50: quantile(0.5), p99: quantile(0.99), max: quantile(1) },
      broken: this.#broken,
      violations: this.#violations,
    };
  }

  #checkOrder(
    source: Source,
    outcome: ReadOutcome,
    history: PartitionHistory,
    offset: number,
    at: string,
  ): void {
    const { action, instrument, revision } = outcome;
    // Shadow outcomes of a revision come in the order of its input, whatever the instrument.
    const key =
      action === "shadow" ? `s/${history.id}/${revision}` : `${source}/${action}/${history.id}/${instrument}`;
    const stream = this.#streams.get(key);
    const epoch = outcome.epoch ?? NO_EPOCH;
    if (stream === undefined) {
      this.#streams.set(key, { offset, epoch, at });
      return;
    }
    if (action === "shadow") {
      if (offset <= stream.offset) {
        this.#break(
          "H7",
          history,
          offset,
          `${revision} at ${at} after ${stream.offset} at ${stream.at}: it went back`,
        );
      }
    } else {
      if (offset < stream.offset) {
        this.#break(
          "H5",
          history,
          offset,
          `${instrument} at ${at} after its ${stream.offset} at ${stream.at}`,
        );
      }
      if (epoch < stream.epoch) {
        this.#break(
          "H4",
          history,
          offset,
          `${instrument} at ${at}: epoch ${epoch} after ${stream.epoch} at ${stream.at}`,
        );
      }
    }
    stream.offset = offset;
    stream.epoch = epoch;
    stream.at = at;
  }

  /** H1, H2 and H3: every input record against the ledger and against the outcome before it. */
  #checkOwners(history: PartitionHistory, before: CommittedOf): void {
    const committed = new Map<string, number>();
    const previous = new Map<number, { readonly revision: number; readonly offset: number }>();
    // What lies behind was written while this was read.
    for (let slot = 0; slot < history.inputs; slot++) {
      const input = history.instruments[slot] ?? 0;
      const instrument = history.outcomes[slot] || input;
      const offset = history.base + slot;
      const owner = history.owners[slot] ?? 0;
      if (input === 0) {
        if (owner !== 0) this.#break("H1", history, offset, "an outcome without an input record");
        continue;
      }
      const segment = this.#ownership.at(history.id, this.#instruments.name(instrument), offset);
      if (owner === 0) {
        this.#missing(history, offset, instrument, segment, committed, before);
        continue;
      }
      const name = this.#revisions.name(owner);
      if (segment?.revision !== name || segment.epoch !== history.epochs[slot]) {
        const right = segment === undefined ? "nobody" : `${segment.revision} in epoch ${segment.epoch}`;
        const detail = `${name} in epoch ${history.epochs[slot]} decided, the owner is ${right}`;
        this.#break("H2", history, offset, detail);
      }
      const last = previous.get(instrument);
      if (
        last !== undefined &&
        last.revision !== owner &&
        !this.#cutBetween(history, instrument, last.offset, offset)
      ) {
        const from = this.#revisions.name(last.revision);
        this.#break("H3", history, offset, `from ${from} to ${name} without a cut after ${last.offset}`);
      }
      previous.set(instrument, { revision: owner, offset });
    }
  }

  #missing(
    history: PartitionHistory,
    offset: number,
    instrument: number,
    owner: Segment | undefined,
    committed: Map<string, number>,
    before: CommittedOf,
  ): void {
    const name = this.#instruments.name(instrument);
    if (owner === undefined) {
      const first = this.#ownership.segments(history.id, name)[0];
      if (first === undefined || offset < first.from) this.#counts.unowned += 1;
      else this.#counts.pending += 1;
      return;
    }
    const { revision, epoch } = owner;
    let position = committed.get(revision);
    if (position === undefined) {
      position = before(revision, history.place)?.offset ?? 0;
      committed.set(revision, position);
    }
    // Who has taken over since passed it when that was to be shadow, and made it live with the take-over.
    const known = this.#known.at(history.id, name, offset);
    const wasOwner = known?.revision === revision && known.epoch === epoch;
    if (offset >= position || !wasOwner) this.#counts.pending += 1;
    else this.#break("H1", history, offset, `no live outcome, the owner ${revision} has passed it`);
  }

  #cutBetween(history: PartitionHistory, instrument: number, after: number, upTo: number): boolean {
    return this.#ownership
      .segments(history.id, this.#instruments.name(instrument))
      .some(({ from }) => from > after && from <= upTo);
  }

  /** H6, H7 and H8: each revision's outcomes against what it committed. */
  #checkRevisions(history: PartitionHistory, before: CommittedOf, after: CommittedOf): void {
    const beginnings = this.#beginnings.of(history.id);
    for (const [revision, covered] of history.covered) {
      if (!beginnings.has(this.#revisions.name(revision))) {
        const offset = history.base + covered.indexOf(1);
        this.#break("H8", history, offset, `${this.#revisions.name(revision)} never recorded that it began`);
      }
    }
    for (const [name, list] of beginnings) {
      const start = list.at(-1)?.offset ?? 0;
      const passed = before(name, history.place)?.offset ?? start;
      const { offset: end, at } = after(name, history.place) ?? { offset: start, at: 0 };
      this.#checkCovered(history, name, list, passed);
      for (const beginning of list) this.#checkBeginning(history, name, beginning);
      const last = history.latest.get(this.#revisions.id(name));
      if (last !== undefined && last.offset >= end && last.time > at + LATE_MS)
        this.#break("H6", history, last.offset, `${name} has committed only up to ${end}`);
      // Only what does not move can be compared.
      const expected = Math.max(start, (last?.offset ?? -1) + 1);
      if (passed === end && end > expected && end > history.base) {
        const detail = `${name} has committed ${end}, its last outcome is ${last?.offset ?? "none"}`;
        this.#break("H7", history, expected, detail);
      }
    }
  }

  /** H8: a revision has something for each record up to `passed`, but for what it has left out and did not own. */
  #checkCovered(history: PartitionHistory, name: string, list: readonly Beginning[], passed: number): void {
    const covered = history.covered.get(this.#revisions.id(name)) ?? new Uint8Array();
    const [{ offset: first } = { offset: 0 }, ...anew] = list;
    for (let slot = Math.max(0, first - history.base); slot < history.length; slot++) {
      const offset = history.base + slot;
      if (offset >= passed) return;
      const input = history.instruments[slot] ?? 0;
      if (covered[slot] === 1 || input === 0) continue;
      const instrument = this.#instruments.name(history.outcomes[slot] || input);
      const owned = this.#ownership.at(history.id, instrument, offset)?.revision === name;
      const leftOut = anew.some(({ left = 0, offset: start }) => offset >= left && offset < start);
      if (leftOut && !owned) continue;
      const detail = leftOut ? "left out what was its own" : `began at ${first} and has nothing here`;
      this.#break("H8", history, offset, `${name} ${detail}`);
    }
  }

  /** H8: nobody decides from a cut on that lies in what it has left out, or before it began. */
  #checkBeginning(history: PartitionHistory, name: string, { left = -1, offset: start }: Beginning): void {
    for (const { revision, from, to } of this.#ownership.all(history.id)) {
      // What it owned may end behind its last position: where another let go in its name.
      if (revision !== name || from >= start || (from <= left && to <= start)) continue;
      const detail = `${name} owned from ${from} on and begins behind that, at ${start}`;
      this.#break("H8", history, from, detail);
    }
  }

  #partition(place: Place): PartitionHistory {
    const id = placeKey(place);
    let partition = this.#partitions.get(id);
    if (partition === undefined) {
      partition = new PartitionHistory(place);
      this.#partitions.set(id, partition);
    }
    return partition;
  }

  #break(rule: Rule, { place }: PartitionHistory, offset: number, detail: string): void {
    this.#broken[rule] += 1;
    if (this.#broken[rule] > KEPT) return;
    const { topic, partition } = place;
    this.#violations.push({ rule, topic, partition, offset, detail });
  }
}
