import type { Request } from "#runtime/contracts/ledger.ts";
import { holdingOf, type LedgerState, type PartitionState, type Place, partitionState } from "./rules.ts";

// What a conductor does with what it sees, apart from all I/O.

export interface Deadlines {
  /** Milliseconds after a request at which a revision that has not let go is made to. */
  readonly releaseMs: number;
  /** Milliseconds after a request at which what has not been taken over is handed back. */
  readonly takeMs: number;
}

export const DEADLINES: Deadlines = { releaseMs: 15_000, takeMs: 30_000 };

export type Step =
  /** Nothing is open. */
  | { readonly kind: "idle" }
  /** Look again after so many milliseconds, or when the ledger has changed. */
  | { readonly kind: "wait"; readonly ms: number; readonly debtors: readonly Debtor[] }
  /** Every partition of the request has been taken: record it. */
  | { readonly kind: "complete"; readonly epoch: number }
  /** Write the release in the name of a revision that does not answer. */
  | { readonly kind: "force"; readonly place: Place; readonly revision: string }
  /** Ask for everything to go back where it came from. */
  | { readonly kind: "hand-back"; readonly request: Omit<Request, "type" | "at"> };

/** Who has to act next in a partition. */
export interface Debtor {
  readonly place: Place;
  readonly revision: string;
  readonly owes: "release" | "take";
}

/** The next step towards having nothing open. `now` is milliseconds since 1970. */
export function conduct(state: LedgerState, now: number, deadlines: Deadlines): Step {
  const requests = [...state.requests.values()];
  const done = requests.find(({ open }) => open === 0);
  if (done !== undefined) return { kind: "complete", epoch: done.request.epoch };
  const latest = requests.at(-1)?.request;
  if (latest === undefined) return { kind: "idle" };
  const age = now - latest.at;
  const debtors = latest.partitions.flatMap((place) => debtorOf(partitionState(state, place), place) ?? []);
  const late = debtors.find(({ owes }) => owes === "release" && age >= deadlines.releaseMs);
  if (late !== undefined) return { kind: "force", place: late.place, revision: late.revision };
  const untaken = debtors.some(({ owes }) => owes === "take");
  if (untaken && age >= deadlines.takeMs && requests.length === 1) {
    const request = undo(state, latest);
    if (request !== undefined) return { kind: "hand-back", request };
  }
  const next = [deadlines.releaseMs, deadlines.takeMs].filter((ms) => ms > age).map((ms) => ms - age);
  return { kind: "wait", ms: Math.min(1_000, ...next), debtors };
}

/** The request that undoes another; undefined for the first owner's, which came from nobody. */
export function undo(state: LedgerState, request: Request): Omit<Request, "type" | "at"> | undefined {
  if (request.from === null) return undefined;
  const { instruments, partitions, from, to } = request;
  const reason = `${to} did not take over in time`;
  return { epoch: state.epoch + 1, instruments, partitions, from: to, to: from, reason };
}

/** Undefined where nothing is open. */
export function debtorOf(state: PartitionState, place: Place): Debtor | undefined {
  const [first, second] = state.moves;
  if (first === undefined) return undefined;
  if (first.cut === undefined && first.from !== null) return { place, revision: first.from, owes: "release" };
  return { place, revision: first.to, owes: second === undefined ? "take" : "release" };
}

/** Requests that move a selection to a revision, one for each present owner; none when it has everything. */
export function planMove(
  state: LedgerState,
  places: readonly Place[],
  instruments: readonly string[],
  to: string,
): readonly Omit<Request, "type" | "at" | "epoch">[] {
  const groups = new Map<string, { from: string | null; partitions: Place[]; instruments: Set<string> }>();
  for (const place of places) {
    const partition = partitionState(state, place);
    // Everything means what is owned by name as well.
    const keys = instruments.includes("*")
      ? new Set([...partition.holdings.keys(), ...instruments])
      : new Set(instruments);
    const byOwner = new Map<string | null, string[]>();
    for (const key of keys) {
      const owner = holdingOf(partition, key)?.revision ?? null;
      if (owner !== to) byOwner.set(owner, [...(byOwner.get(owner) ?? []), key]);
    }
    for (const [from, list] of byOwner) {
      const id = JSON.stringify([from, list.toSorted()]);
      const group = groups.get(id) ?? { from, partitions: [], instruments: new Set(list.toSorted()) };
      group.partitions.push(place);
      groups.set(id, group);
    }
  }
  return [...groups.values()].map(({ from, partitions, instruments: keys }) => ({
    from,
    to,
    partitions,
    instruments: [...keys],
  }));
}
