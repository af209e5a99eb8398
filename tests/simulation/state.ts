import type { Done } from "#runtime/handover/repair.ts";
import { type Duty, isDischarged, type PartitionState } from "#runtime/handover/rules.ts";
import type { Node } from "./ledger-tree.ts";

// What a state of the model is made of.

export interface ModelConfig {
  readonly partitions: number;
  /** The instrument of each message of a partition. */
  readonly messages: readonly string[];
  /** Requests that a conductor makes one after another: keys, from, to. */
  readonly script: readonly { readonly keys: string[]; readonly from: Rev; readonly to: Rev }[];
  /** How many crashes and zombies there may be in all. */
  readonly faults: number;
  readonly forces: number;
  readonly handBacks: number;
  /** How often an old ledger record may be written again. */
  readonly duplicates: number;
  /** A batch may be committed without a position, which a later one brings. */
  readonly lag: boolean;
  /** One that comes back may begin anew, however little it is behind. */
  readonly anew?: boolean;
  /** How many revisions there are; default two. */
  readonly revisions?: number;
  /** How many of them have begun and run at first; default all. */
  readonly begun?: number;
  /** Protections that are switched off, to see what each of them is for. */
  readonly without?:
    | "fencing"
    | "ledger-read"
    | "same-transaction"
    /** Of a revision that begins, or begins anew. */
    | "the owners' positions"
    | "the cuts"
    | "its own"
    | "positions first";
}

export type Rev = "a" | "b" | "c";
export const REVS: readonly Rev[] = ["a", "b", "c"];
export const TOPIC = "t";

export interface Worker {
  readonly fence: number;
  /** 0 fenced the one before, 1 has read its position and the others', 2 has read the ledger and runs. */
  readonly phase: 0 | 1 | 2;
  readonly position: number;
  /** The positions of all revisions, as it has read them; only in phase 1. */
  readonly others: readonly number[];
  /** Outcomes from its first position on that were there when it began; none when it is past them. */
  readonly done: ReadonlyMap<bigint, Done>;
  readonly view: Node;
  /** What it has written and waits to read. */
  readonly waits: Waits | undefined;
  /** Decides its next batch as it saw the ledger before its own release; only without "same-transaction". */
  readonly stale: Node | undefined;
}

export type Waits = Pick<Duty, "kind" | "epoch"> & { readonly filled?: bigint };

export interface Force {
  readonly rev: Rev;
  readonly partition: number;
  readonly fence: number;
  readonly committed: number | undefined;
  /** Has read the ledger since it fenced the owner. */
  readonly read: boolean;
}

export interface Boss {
  readonly fence: number;
  readonly view: Node;
  readonly force: Force | undefined;
}

/** Slots of workers: by revision and partition. */
export interface State {
  readonly head: Node;
  readonly fences: readonly number[];
  /** -1 before it has begun. */
  readonly committed: readonly number[];
  /** Up to where there are outcomes. */
  readonly written: readonly number[];
  /** By partition and offset: who decided live, 0 nobody. */
  readonly out: readonly number[];
  readonly workers: readonly (readonly Worker[])[];
  readonly bosses: readonly Boss[];
  readonly bossFence: number;
  readonly asked: number;
  readonly faults: number;
  readonly forces: number;
  readonly handBacks: number;
  readonly duplicates: number;
}

export type Add = (name: string, next: State, fault?: boolean) => undefined;

export class Breach extends Error {}

export interface Successor {
  readonly name: string;
  readonly state: State;
  /** Only a fault takes this step; a world without faults goes on without it. */
  readonly fault: boolean;
}

export function hasRead(state: PartitionState, waits: Waits | undefined): boolean {
  if (waits === undefined || isDischarged(state, waits)) return true;
  if (waits.filled === undefined) return false;
  return (state.moves.find(({ epoch }) => epoch === waits.epoch)?.filled ?? 0n) >= waits.filled;
}

export function waitsId(waits: Waits | undefined): number {
  return waits === undefined
    ? 0
    : (waits.epoch * 2 + (waits.kind === "take" ? 1 : 0)) * 16 + Number(waits.filled ?? 0n);
}

export function doneId(done: ReadonlyMap<bigint, Done>): number {
  let id = 0;
  for (const [offset, { live }] of done) id += (live ? 2 : 1) * 3 ** Number(offset);
  return id;
}

/** What the topics have of a revision from a position on. */
export function doneFrom(
  { messages, partitions }: ModelConfig,
  { out, written }: State,
  slot: number,
  position: number,
): ReadonlyMap<bigint, Done> {
  const done = new Map<bigint, Done>();
  const owner = Math.floor(slot / partitions) + 1;
  for (let offset = position; offset < (written[slot] ?? 0); offset++) {
    const live = out[(slot % partitions) * messages.length + offset] === owner;
    done.set(BigInt(offset), { instrument: messages[offset] as string, live, shadow: !live });
  }
  return done;
}

export function replace<T>(list: readonly T[], index: number, value: T): readonly T[] {
  const copy = list.slice();
  copy[index] = value;
  return copy;
}

/** A key that two states share only when they are the same. */
export function stateKey(state: State, partitions: number): string {
  const parts: number[] = [
    state.head.id,
    ...state.fences,
    ...state.committed.map((offset) => offset + 1),
    ...state.written,
    ...state.out,
  ];
  for (const [slot, workers] of state.workers.entries()) {
    const partition = slot % partitions;
    parts.push(workers.length);
    for (const w of workers) {
      const seen = w.view.parts[partition] ?? 0;
      const stale = w.stale?.parts[partition] ?? 0;
      parts.push(w.fence, w.phase, w.position + 1, doneId(w.done), seen, stale, waitsId(w.waits));
      parts.push(w.others.reduce((id, offset) => id * 8 + offset + 1, 0));
    }
  }
  parts.push(state.bosses.length);
  for (const { fence, view, force } of state.bosses) {
    parts.push(fence, view.id);
    if (force === undefined) parts.push(0);
    else {
      const slot = REVS.indexOf(force.rev) * partitions + force.partition;
      parts.push(1 + slot, force.fence, (force.committed ?? -1) + 1, force.read ? 1 : 0);
    }
  }
  parts.push(state.bossFence, state.asked, state.faults, state.forces, state.handBacks, state.duplicates);
  return String.fromCharCode(...parts.flatMap((n) => (n < 0xd000 ? [n] : [0xd000 + (n >> 12), n & 0xfff])));
}
