import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { BusError } from "#runtime/bus/errors.ts";
import type { OutRecord, TransactionalProducer } from "#runtime/bus/port.ts";
import type { Ledger } from "#runtime/contracts/ledger.ts";
import { join } from "./beginning.ts";
import { ledgerRecord } from "./ledger.ts";
import { type Action, type Outcome, outcomeRecord } from "./outcome.ts";
import { type Done, encodeMark, isDone, type Mark, repairedDuty, resumeAt } from "./repair.ts";
import type { Revision } from "./revision.ts";
import { Ring } from "./ring.ts";
import {
  applyLedger,
  type Duty,
  isDischarged,
  isLive,
  moves,
  type PartitionState,
  type Place,
  partitionState,
} from "./rules.ts";
import { readShadow } from "./shadow.ts";
import { groupOf, leftoversOf, positionOf, REACHED_MS, type Standing, transactionalId } from "./standing.ts";

const STEPS_OF = {
  release: { before: "releasing", after: "released" },
  take: { before: "taking", after: "taken" },
} as const;

/** A batch of a stream that flows is there within this. */
const BATCH_SOON_MS = 30;

/** A worker that was fenced because its partition moved hears of that within a heartbeat. */
export const REVOKED_WITHIN_MS = 3_000;

/**
 * One partition of one revision while this process has it: commits outcomes where the ledger says that they belong,
 * releases and takes over. Only one thing happens at a time.
 */
export class PartitionWorker {
  readonly place: Place;
  readonly #shared: Revision;
  readonly #producer: TransactionalProducer;
  readonly #ring: Ring;
  readonly #gone = new AbortController();
  #position: bigint;
  /** What is committed may be more than what is done: where half of a transaction was lost. */
  readonly #committed: bigint;
  /** Outcomes around `#position` that were there already; empty once it is past them. */
  readonly #done: Map<bigint, Done>;
  /** Before any of those was written. */
  readonly #doneSince: number;
  /** When the ledger was told last where this worker stands. */
  #toldAt = 0;
  /** When a position was committed last, by a clock that nobody sets; and what its mark says. */
  #committedAt = Number.NEGATIVE_INFINITY;
  #markedLast = 0;
  /** The position of the latest transaction, where that went without one, and since when. */
  #owed: { readonly next: bigint; readonly mark: Mark; readonly since: number } | undefined;
  #stopping = false;
  /** The request whose release was waited for last, and until when. */
  #awaited = { epoch: 0, until: 0 };
  #last: Promise<unknown> = Promise.resolve();

  /** Takes a partition over: fences whoever had it, reads where it got to, reads the ledger, in this order. */
  static async open(shared: Revision, place: Place, signal: AbortSignal): Promise<PartitionWorker> {
    const { bus, deployment, revision, hook, unsafe } = shared;
    const id = transactionalId(deployment, revision, place);
    const producer = await bus.transactionalProducer(unsafe === "fencing" ? `${id}.${randomUUID()}` : id, {
      leftovers: await leftoversOf(bus, deployment, revision, place),
      signal,
    });
    const end = () => void producer.close();
    signal.addEventListener("abort", end);
    try {
      await hook?.("fenced", place);
      const found = await positionOf(shared, revision, place);
      await hook?.("position-read", place);
      const standing = await join(shared, place, producer, found, signal);
      await hook?.("ledger-read", place);
      return new PartitionWorker(shared, place, producer, standing);
    } catch (error) {
      await producer.close().catch(() => {});
      throw error;
    } finally {
      signal.removeEventListener("abort", end);
    }
  }

  private constructor(
    shared: Revision,
    place: Place,
    producer: TransactionalProducer,
    { position, mark, done }: Standing,
  ) {
    this.#shared = shared;
    this.place = place;
    this.#producer = producer;
    this.#position = resumeAt(mark, position, done);
    this.#committed = position;
    this.#done = done;
    this.#doneSince = mark?.at ?? 0;
    this.#ring = new Ring(shared.ringBytes, place, this.#position);
  }

  /** Next offset to be committed. */
  get position(): bigint {
    return this.#position;
  }

  /** Commits the outcomes of a batch, one for each of its records, and that everything below `next` is done. */
  commit(outcomes: readonly Outcome[], next: bigint): Promise<void> {
    return this.#exclusive(async () => {
      if (outcomes[0] !== undefined && outcomes[0].input.offset < this.#position) {
        throw new Error(`offset ${outcomes[0].input.offset} again, below ${this.#position}`);
      }
      await this.#awaitRelease();
      const duty = (await this.#dischargeTakes(true)) ?? this.#toRelease(next);
      if (duty !== undefined) await this.#shared.hook?.(STEPS_OF[duty.kind].before, this.place);
      await this.#commitBatch(outcomes, next, duty);
      if (duty !== undefined) await this.#discharged(duty);
    });
  }

  /** Does what the ledger asks for while there is nothing to commit. */
  async discharge(): Promise<void> {
    const duty = this.#duty(this.#position);
    if (duty === undefined) return;
    // In a stream that flows the next batch takes over, in one transaction instead of two.
    if (this.#goesWithBatch(duty))
      await sleep(BATCH_SOON_MS, undefined, { signal: this.#gone.signal }).catch(() => {});
    return this.#exclusive(async () => {
      await this.#dischargeTakes(false);
      const duty = this.#toRelease(this.#position);
      if (duty === undefined || this.#shared.unsafe === "same-transaction") return;
      await this.#shared.hook?.("releasing", this.place);
      await this.#write([this.#releasedRecord(duty)]);
      await this.#discharged(duty);
    });
  }

  /** Commits the position where no batch has come for a while that could have taken it along. */
  async settle(): Promise<void> {
    const { since = Number.POSITIVE_INFINITY } = this.#owed ?? {};
    if (performance.now() - since >= this.#shared.positionMs)
      await this.#exclusive(() => this.#writePosition());
  }

  /** Commits the position now, and from now on with every batch: whoever comes next has nothing to go over again. */
  stopping(): Promise<void> {
    this.#stopping = true;
    return this.#exclusive(() => this.#writePosition());
  }

  /** The partition is somebody else's: nothing more is written. */
  async close(): Promise<void> {
    this.#gone.abort();
    await this.#producer.close().catch(() => {});
  }

  async #commitBatch(outcomes: readonly Outcome[], next: bigint, duty: Duty | undefined): Promise<void> {
    const { revision, metrics, unsafe, follower } = this.#shared;
    const release = duty?.kind === "release" ? duty : undefined;
    const taken = duty?.kind === "take" ? this.#takenRecord(duty, Date.now()) : undefined;
    // What is read here is in force for the whole transaction: nothing is awaited before it is begun.
    const state =
      taken === undefined ? this.#state() : partitionState(applyLedger(follower.state, taken), this.place);
    const halted = this.#shared.halted();
    metrics.halted.set(halted ? 1 : 0);
    const shadow: Outcome[] = [];
    const at = Date.now();
    const records: OutRecord[] = [];
    for (const outcome of outcomes) {
      const { offset } = outcome.input;
      const holding = isLive(state, revision, outcome.instrument, offset);
      const action: Action = holding === undefined ? "shadow" : halted ? "withheld" : "live";
      if (action === "shadow") shadow.push(outcome);
      if (this.#done.size > 0 && isDone(this.#done, offset, action)) continue;
      metrics.outcomes.inc({ action, kind: outcome.kind });
      records.push(outcomeRecord(outcome, action, holding?.epoch, this.#shared.destinations));
    }
    const from = outcomes[0]?.input.offset ?? next;
    const mark: Mark = { from, count: outcomes.length, kind: "batch", at: this.#markedAt(at) };
    const tells = this.#done.size === 0 && at - this.#toldAt >= REACHED_MS;
    if (tells) records.push(this.#reachedRecord(at));
    if (taken !== undefined) records.push(this.#ledger(taken));
    const apart = release !== undefined && unsafe === "same-transaction";
    if (apart) await this.#write([this.#releasedRecord({ ...release, cut: this.#position })]);
    if (release !== undefined && !apart) records.push(this.#releasedRecord(release));
    // What was done before is gone over with a position each, for its mark says so. Whoever is to let go is not waited for.
    const withPosition = release !== undefined || this.#done.size > 0 || this.#isPositionDue(at);
    const position = { next, mark };
    await this.#write(records, withPosition ? position : undefined);
    if (!withPosition) this.#owed = { ...position, since: performance.now() };
    if (tells) this.#toldAt = at;
    this.#forget(next);
    for (const outcome of shadow) this.#ring.push(outcome);
    metrics.ringBytes.set(this.place, this.#ring.bytes);
    metrics.transactionRecords.observe(outcomes.length);
    this.#position = next;
    await this.#shared.hook?.("committed", this.place);
  }

  async #writePosition(): Promise<void> {
    if (this.#owed !== undefined) await this.#write([], this.#owed);
  }

  /** Also where the clock was set back: from the last mark on, what is written now would not be found. */
  #isPositionDue(at: number): boolean {
    const old = performance.now() - this.#committedAt >= this.#shared.positionMs;
    return old || this.#stopping || at < this.#markedLast;
  }

  /** What was done is of no use once all of it is behind, and nothing before that is to be taken or given back. */
  #forget(next: bigint): void {
    if (this.#done.size === 0 || this.#state().moves.some(({ to }) => to === this.#shared.revision)) return;
    if ([...this.#done.keys()].every((offset) => offset < next)) this.#done.clear();
  }

  /** Takes over what there is to take over; resolves with what a batch that is about to be committed can do as well. */
  async #dischargeTakes(hasBatch: boolean): Promise<Duty | undefined> {
    for (;;) {
      const duty = this.#duty(this.#position);
      if (duty?.kind !== "take") return undefined;
      if (hasBatch && this.#goesWithBatch(duty)) return duty;
      await this.#take(duty);
    }
  }

  /** Whether there is nothing to make live before a duty to take is done, and nothing to make whole. */
  #goesWithBatch(duty: Duty | undefined): boolean {
    return duty?.kind === "take" && duty.keep && duty.fill >= this.#position && this.#done.size === 0;
  }

  /**
   * Lets a batch wait for the release that this revision is to take over by: what would be on its way when that comes would
   * keep the instrument waiting for the whole of a transaction. Once a request, and not for long: others of its instruments
   * may be live.
   */
  async #awaitRelease(): Promise<void> {
    const { follower, revision, releaseSoonMs } = this.#shared;
    const awaited = () => {
      // The second undoes the first, and comes after it.
      const [move] = this.#state().moves;
      return move?.to === revision && move.cut === undefined ? move.epoch : undefined;
    };
    const epoch = awaited();
    if (epoch === undefined) return;
    if (this.#awaited.epoch !== epoch) this.#awaited = { epoch, until: performance.now() + releaseSoonMs };
    const left = this.#awaited.until - performance.now();
    if (left <= 0) return;
    const soon = AbortSignal.any([this.#gone.signal, AbortSignal.timeout(Math.ceil(left))]);
    await follower.until(() => awaited() !== epoch, soon).catch(() => {});
  }

  /** Makes live what was decided from the cut on, and takes over. */
  async #take(duty: Duty & { kind: "take" }): Promise<void> {
    const { revision, destinations, metrics, hook, halted, fillRecords } = this.#shared;
    await hook?.("taking", this.place);
    const { epoch, fill, keep } = duty;
    const outcomes = (await this.#outcomesFrom(fill)).filter(
      ({ instrument, input }) =>
        moves(this.#state(), duty.keys, instrument) && this.#done.get(input.offset)?.live !== true,
    );
    const base = { at: Date.now(), epoch, revision, ...this.place };
    const action = () => (halted() ? "withheld" : "live");
    for (let start = 0; ; start += fillRecords) {
      const part = outcomes.slice(start, start + fillRecords);
      const last = start + fillRecords >= outcomes.length;
      const became = action();
      const records = part.map((outcome) => outcomeRecord(outcome, became, epoch, destinations));
      const filledTo = (part.at(-1)?.input.offset ?? 0n) + 1n;
      const step: Ledger =
        last && keep
          ? this.#takenRecord(duty, base.at)
          : { type: "filled", ...base, next: String(last ? this.#position : filledTo) };
      const from = part[0]?.input.offset;
      const mark =
        from === undefined
          ? undefined
          : { from, count: part.length, kind: "live" as const, at: this.#markedAt(base.at) };
      await this.#write(
        [...records, this.#ledger(step)],
        mark === undefined ? undefined : { next: this.#position, mark },
      );
      for (const { kind } of part) metrics.outcomes.inc({ action: became, kind });
      if (last) break;
      await hook?.("filled", this.place);
    }
    if (keep) return this.#discharged(duty);
    await this.#shared.follower.until(() => {
      const move = this.#state().moves.find((open) => open.epoch === epoch);
      return move === undefined || (move.filled ?? -1n) >= this.#position;
    }, this.#gone.signal);
  }

  async #outcomesFrom(fill: bigint): Promise<readonly Outcome[]> {
    const { bus, destinations, revision, metrics } = this.#shared;
    if (fill >= this.#position) return [];
    const { topic, partition } = this.place;
    if (this.#ring.from <= fill) {
      const kept = this.#ring.between(fill, this.#position);
      metrics.filled.inc({ source: "memory" }, kept.length);
      return kept;
    }
    const read = await readShadow(bus, this.#producer, {
      topic: destinations.shadow,
      partition: partition % destinations.shadowPartitions,
      revision,
      input: { topic, partition },
      from: fill,
      to: this.#position,
      started: this.#state().started.get(revision)?.offset ?? 0n,
    });
    metrics.filled.inc({ source: "shadow" }, read.length);
    return read;
  }

  /** Waits until what was written can be read: whatever comes next is decided by the ledger with it. */
  async #discharged(duty: Duty): Promise<void> {
    const { follower, hook, metrics } = this.#shared;
    const step = STEPS_OF[duty.kind].after;
    await hook?.(step, this.place);
    metrics.handovers.inc({ step });
    await follower.until(() => isDischarged(this.#state(), duty), this.#gone.signal);
  }

  #state(): PartitionState {
    return partitionState(this.#shared.follower.state, this.place);
  }

  #duty(position: bigint): Duty | undefined {
    return repairedDuty(this.#state(), this.#shared.revision, position, this.#done);
  }

  #toRelease(position: bigint): (Duty & { kind: "release" }) | undefined {
    const duty = this.#duty(position);
    return duty?.kind === "release" ? duty : undefined;
  }

  /** Whoever comes next looks for outcomes from there on, also for those that this worker has found. */
  #markedAt(now: number): number {
    return this.#done.size === 0 ? now : Math.min(now, this.#doneSince);
  }

  #reachedRecord(at: number): OutRecord {
    const { revision } = this.#shared;
    return this.#ledger({ type: "reached", at, revision, ...this.place, offset: String(this.#position) });
  }

  #releasedRecord({ epoch, cut }: Duty): OutRecord {
    const { revision } = this.#shared;
    const record = { epoch, revision, ...this.place, cut: String(cut), forced: false };
    return this.#ledger({ type: "released", at: Date.now(), ...record });
  }

  #takenRecord({ epoch, cut }: Duty, at: number): Ledger {
    const { revision } = this.#shared;
    return {
      type: "taken",
      at,
      epoch,
      revision,
      ...this.place,
      cut: String(cut),
      next: String(this.#position),
    };
  }

  #ledger(record: Ledger): OutRecord {
    return ledgerRecord(this.#shared.deployment, record);
  }

  async #write(
    records: readonly OutRecord[],
    position?: { readonly next: bigint; readonly mark: Mark },
  ): Promise<void> {
    const { deployment, revision } = this.#shared;
    const group = groupOf(deployment, revision);
    try {
      await this.#producer.commit({
        records,
        ...(position === undefined ? {} : { offsets: this.#offsets(group, position) }),
      });
      if (position === undefined) return;
      this.#committedAt = performance.now();
      this.#markedLast = position.mark.at;
      this.#owed = undefined;
    } catch (error) {
      // Whoever has the partition now fenced this worker; the group says so a moment later.
      if (!this.#gone.signal.aborted)
        await sleep(REVOKED_WITHIN_MS, undefined, { signal: this.#gone.signal }).catch(() => {});
      if (this.#gone.signal.aborted)
        throw new BusError("REBALANCED", `${this.place.topic}/${this.place.partition}`);
      throw error;
    }
  }

  /** A position never goes back, also where something is done again. */
  #offsets(group: string, { next, mark }: { readonly next: bigint; readonly mark: Mark }) {
    const offset = next > this.#committed ? next : this.#committed;
    return { group, positions: [{ ...this.place, offset }], metadata: encodeMark(mark) };
  }

  #exclusive(work: () => Promise<void>): Promise<void> {
    const result = this.#last.then(() => {
      if (this.#gone.signal.aborted) throw new BusError("REBALANCED", "the partition is gone");
      return work();
    });
    this.#last = result.catch(() => {});
    return result;
  }
}
