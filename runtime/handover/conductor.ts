import { randomUUID } from "node:crypto";
import { BusError } from "#runtime/bus/errors.ts";
import type { Bus, TransactionalProducer } from "#runtime/bus/port.ts";
import type { Ledger, Request } from "#runtime/contracts/ledger.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { readLedger } from "./beginning.ts";
import { conduct, DEADLINES, type Deadlines, type Debtor, planMove } from "./conduct.ts";
import { HandoverError } from "./errors.ts";
import { LedgerFollower, ledgerRecord } from "./ledger.ts";
import { forcedEnd } from "./repair.ts";
import { type LedgerState, type Place, partitionState, refusal } from "./rules.ts";
import { latestPosition, leftoversOf, positionOf, standingOf, transactionalId } from "./standing.ts";

/** Points of the protocol at which a test may stop a conductor. */
export const CONDUCTOR_STEPS = ["conducting", "requested", "fenced-owner", "forced", "completed"] as const;
export type ConductorStep = (typeof CONDUCTOR_STEPS)[number];

export interface ConductorOptions {
  readonly bus: Bus;
  readonly deployment: string;
  readonly deadlines?: Deadlines;
  /** Called when something happens, for progress and logs. */
  readonly onEvent?: (event: ConductorEvent) => void;
  /** Called after each change of the ledger or of the kill switch. */
  readonly onLedger?: () => void;
  readonly hook?: (step: ConductorStep) => Promise<void> | void;
}

export type ConductorEvent =
  | { readonly kind: "requested" | "hand-back"; readonly request: Request }
  | { readonly kind: "waiting"; readonly debtors: readonly Debtor[] }
  | { readonly kind: "forced"; readonly place: Place; readonly revision: string; readonly cut: bigint }
  | { readonly kind: "lost-race"; readonly place: Place; readonly revision: string }
  | { readonly kind: "completed"; readonly epoch: number };

/** An open transaction of somebody who died keeps readers of the ledger waiting for 15 s at most. */
const READ_MS = 20_000;

/** A worker that was fenced and has not been let go of is asked again after this. */
const FORCE_AGAIN_MS = 2_000;

export function conductorId(deployment: string): string {
  return `baton.conductor.${deployment}`;
}

/**
 * Writes requests and sees them through. Of several conductors of a deployment the latest one counts: it fences the
 * others, whose next write rejects with DEPOSED.
 */
export class Conductor {
  readonly #options: ConductorOptions;
  readonly #follower: LedgerFollower;
  readonly #closing = new AbortController();
  #producer: TransactionalProducer | undefined;
  #failed: Error | undefined;

  constructor(options: ConductorOptions) {
    this.#options = options;
    this.#follower = new LedgerFollower({
      bus: options.bus,
      deployment: options.deployment,
      onFatal: (error) => {
        this.#failed = error;
      },
    });
  }

  /** Deposes every other conductor and reads the ledger to where it begins itself. */
  async start(): Promise<void> {
    const { bus, deployment, hook } = this.#options;
    await this.#follower.start();
    if (this.#closing.signal.aborted) throw new HandoverError("CLOSED", "conductor");
    if (this.#options.onLedger !== undefined) this.#follower.onChange(this.#options.onLedger);
    this.#producer = await bus.transactionalProducer(conductorId(deployment), {
      leftovers: { partitions: [{ topic: topics.ledger(deployment), partition: 0 }] },
      signal: this.#closing.signal,
    });
    const conductor = randomUUID();
    await this.#write({ type: "conducting", at: Date.now(), conductor });
    await this.#follower.until((state) => state.conductor === conductor);
    await hook?.("conducting");
  }

  get state(): LedgerState {
    return this.#follower.state;
  }

  /** Why this one cannot go on: what it knows of the ledger is of no use any more. */
  get failure(): Error | undefined {
    return this.#failed;
  }

  /** Whether the kill switch is on, as Kafka has it. */
  halted(): boolean {
    return this.#follower.halt?.halted === true;
  }

  /** Milliseconds since 1970 of the latest sign of life of the ledger. */
  lastProgress(): number {
    return this.#follower.lastProgress();
  }

  /**
   * Moves instruments (`*`: all) to a revision in the given partitions, and sees it through; what is open from before
   * is finished first. Resolves with the epochs of the requests that were made, none when it has everything already.
   * Rejects with DEPOSED, REFUSED, or with TIMED_OUT when the signal is given.
   */
  async move(
    instruments: readonly string[],
    to: string,
    places: readonly Place[],
    signal?: AbortSignal,
  ): Promise<readonly number[]> {
    await this.settle(signal);
    const epochs: number[] = [];
    // One owner's after another's: each request names one owner.
    for (const part of planMove(this.state, places, instruments, to)) {
      const epoch = this.state.epoch + 1;
      await this.request({ ...part, epoch });
      epochs.push(epoch);
      await this.settle(signal);
    }
    return epochs;
  }

  /** Writes one request and waits until it can be read. Rejects with REFUSED when it cannot be made now. */
  async request(request: Omit<Request, "type" | "at">): Promise<void> {
    await this.#request(request, "requested");
  }

  async #request(request: Omit<Request, "type" | "at">, kind: "requested" | "hand-back"): Promise<void> {
    const why = refusal(this.state, request);
    if (why !== undefined) throw new HandoverError("REFUSED", why);
    const record: Request = { type: "request", at: Date.now(), ...request };
    await this.#write(record);
    await this.#options.hook?.("requested");
    await this.#follower.until((state) => state.epoch >= request.epoch);
    this.#options.onEvent?.({ kind, request: record });
  }

  /** Sees everything that is open through to its end. */
  async settle(signal?: AbortSignal): Promise<void> {
    const { onEvent, hook, deadlines = DEADLINES } = this.#options;
    for (;;) {
      if (this.#failed !== undefined) throw this.#failed;
      if (signal?.aborted) throw new HandoverError("TIMED_OUT", "the request stays open");
      const step = conduct(this.state, Date.now(), deadlines);
      switch (step.kind) {
        case "idle":
          return;
        case "complete":
          await this.#write({ type: "completed", at: Date.now(), epoch: step.epoch });
          await this.#follower.until((state) => !state.requests.has(step.epoch));
          onEvent?.({ kind: "completed", epoch: step.epoch });
          await hook?.("completed");
          break;
        case "force":
          await this.#force(step.place, step.revision);
          break;
        case "hand-back":
          await this.#request(step.request, "hand-back");
          break;
        case "wait":
          onEvent?.({ kind: "waiting", debtors: step.debtors });
          await this.#changeOr(step.ms, signal);
      }
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#producer?.close().catch(() => {});
    await this.#follower.close();
  }

  /**
   * Writes a release in the name of a worker that does not answer: under its id, so that it is fenced first, with what
   * it had committed as the cut. Comes the worker back in between, it fences us, and answers itself.
   */
  async #force(place: Place, revision: string): Promise<void> {
    const { bus, deployment, hook, onEvent, deadlines = DEADLINES } = this.#options;
    const before = partitionState(this.state, place);
    let againMs = FORCE_AGAIN_MS;
    let producer: TransactionalProducer | undefined;
    try {
      producer = await bus.transactionalProducer(transactionalId(deployment, revision, place), {
        leftovers: await leftoversOf(bus, deployment, revision, place),
        signal: this.#closing.signal,
      });
      await hook?.("fenced-owner");
      const found = await positionOf({ bus, deployment }, revision, place);
      // As a worker would begin: what it wrote before it was fenced may not have been read yet.
      const abort = AbortSignal.timeout(READ_MS);
      await readLedger({ deployment, revision, follower: this.#follower }, place, producer, abort);
      const state = partitionState(this.state, place);
      const latest = latestPosition(state, revision, found);
      const standing =
        latest === undefined ? undefined : await standingOf(deployment, revision, place, producer, latest);
      const release = forcedEnd(state, revision, standing);
      // It has to get somewhere first, and is not to be kept from it.
      if (release === undefined) againMs = Math.max(againMs, deadlines.releaseMs);
      else {
        const { epoch, cut, filled } = release;
        const base = { at: Date.now(), revision, ...place };
        const records: Ledger[] = [{ type: "released", ...base, epoch, cut: String(cut), forced: true }];
        if (filled !== undefined)
          records.unshift({ type: "filled", ...base, epoch: filled.epoch, next: String(filled.next) });
        await producer.commit({ records: records.map((record) => ledgerRecord(deployment, record)) });
        await hook?.("forced");
        onEvent?.({ kind: "forced", place, revision, cut });
      }
    } catch (error) {
      if (!(error instanceof BusError)) throw error;
      if (!["FENCED", "UNCERTAIN", "TRANSACTION_FAILED", "REBALANCED"].includes(error.code)) throw error;
      onEvent?.({ kind: "lost-race", place, revision });
    } finally {
      await producer?.close().catch(() => {});
    }
    // Ours, or the worker's own: not tried again before it can be read, or has not come in a while.
    await Promise.race([
      this.#follower.until((state) => partitionState(state, place) !== before),
      new Promise((resolve) => setTimeout(resolve, againMs)),
    ]);
  }

  async #write(record: Ledger): Promise<void> {
    const producer = this.#producer;
    if (producer === undefined) throw new HandoverError("CLOSED", "conductor");
    try {
      await producer.commit({ records: [ledgerRecord(this.#options.deployment, record)] });
    } catch (error) {
      if (error instanceof BusError && error.code === "FENCED") {
        throw new HandoverError("DEPOSED", this.#options.deployment, { cause: error });
      }
      throw error;
    }
  }

  #changeOr(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        stop();
        signal?.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      const stop = this.#follower.onChange(done);
      signal?.addEventListener("abort", done);
    });
  }
}
