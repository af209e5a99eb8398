import { type Ledger, REST, type Request } from "#runtime/contracts/ledger.ts";

// The rules of a hand-over, apart from all I/O: what the ledger says about who decides, and what a worker has to write
// next. Workers, conductor, checker and the model that is explored exhaustively all use these functions.

/** From which record to which a revision's decisions are live. */
export interface Holding {
  readonly revision: string;
  readonly epoch: number;
  /** First offset that it decides. */
  readonly from: bigint;
  /** First offset that it no longer decides; undefined while it owns. */
  readonly to: bigint | undefined;
}

/** A request as it stands in one partition, until it has been taken there. */
export interface Move {
  readonly epoch: number;
  readonly keys: readonly string[];
  readonly from: string | null;
  readonly to: string;
  /** Set when the owner has let go. */
  readonly cut: bigint | undefined;
  /** How far the next owner has written live decisions from the cut on. */
  readonly filled: bigint | undefined;
}

/** What a worker says of itself. */
export interface Report {
  /** Digest of the model that it has loaded. */
  readonly model: string;
  /** Hash of the configuration that it was started with. */
  readonly configuration?: string;
}

export interface PartitionState {
  /** The latest holding of each key: an instrument, or all the others. */
  readonly holdings: ReadonlyMap<string, Holding>;
  /** By epoch; at most two, of which the second undoes the first. */
  readonly moves: readonly Move[];
  /** Where each revision's computing begins, the latest time that it began, and when that was. */
  readonly started: ReadonlyMap<string, { readonly offset: bigint; readonly at: number }>;
  /** Where each revision had come to, and when; what it wrote about later records it wrote after that. */
  readonly reached: ReadonlyMap<string, { readonly offset: bigint; readonly at: number }>;
  /** The latest worker of each revision. */
  readonly workers: ReadonlyMap<string, string>;
  /** What those say of themselves; nothing of one that has not. */
  readonly reports: ReadonlyMap<string, Report>;
}

export interface RequestState {
  readonly request: Request;
  /** Partitions in which it has not been taken. */
  readonly open: number;
}

export interface LedgerState {
  /** The highest epoch asked for; 0 before the first. */
  readonly epoch: number;
  readonly partitions: ReadonlyMap<string, PartitionState>;
  /** The requests that are open or not yet recorded as complete, by epoch. */
  readonly requests: ReadonlyMap<number, RequestState>;
  /** The latest conductor. */
  readonly conductor: string | undefined;
}

export interface Place {
  readonly topic: string;
  readonly partition: number;
}

export const EMPTY_LEDGER: LedgerState = {
  epoch: 0,
  partitions: new Map(),
  requests: new Map(),
  conductor: undefined,
};

const EMPTY_PARTITION: PartitionState = {
  holdings: new Map(),
  moves: [],
  started: new Map(),
  reached: new Map(),
  workers: new Map(),
  reports: new Map(),
};

export function placeKey({ topic, partition }: Place): string {
  return `${topic}/${partition}`;
}

/** The place that a key names. */
export function placeOf(key: string): Place {
  const at = key.lastIndexOf("/");
  return { topic: key.slice(0, at), partition: Number(key.slice(at + 1)) };
}

export function partitionState(state: LedgerState, place: Place): PartitionState {
  return state.partitions.get(placeKey(place)) ?? EMPTY_PARTITION;
}

/** The holding that decides about an instrument, of whichever revision. */
export function holdingOf(state: PartitionState, instrument: string): Holding | undefined {
  return state.holdings.get(instrument) ?? state.holdings.get(REST);
}

/** Whether a revision's decision on a record is live, by what the ledger says. */
export function isLive(
  state: PartitionState,
  revision: string,
  instrument: string,
  offset: bigint,
): Holding | undefined {
  const holding = holdingOf(state, instrument);
  if (holding === undefined || holding.revision !== revision || offset < holding.from) return undefined;
  return holding.to === undefined || offset < holding.to ? holding : undefined;
}

/** The ledger after one more record. Records that come late, twice or against the rules change nothing. */
export function applyLedger(state: LedgerState, record: Ledger): LedgerState {
  switch (record.type) {
    case "request":
      return refusal(state, record) === undefined ? applyRequest(state, record) : state;
    case "conducting":
      return { ...state, conductor: record.conductor };
    case "joined":
      return changePartition(state, record, (old) => ({
        ...old,
        workers: new Map(old.workers).set(record.revision, record.worker),
        reports: withReport(old.reports, record),
      }));
    case "started":
      return changePartition(state, record, (old) => {
        const offset = BigInt(record.offset);
        // Nobody begins anew behind where it has begun.
        if (offset <= (old.started.get(record.revision)?.offset ?? -1n)) return old;
        return {
          ...old,
          started: new Map(old.started).set(record.revision, { offset, at: record.at }),
        };
      });
    case "reached":
      return changePartition(state, record, (old) => ({
        ...old,
        reached: new Map(old.reached).set(record.revision, {
          offset: BigInt(record.offset),
          at: record.at,
        }),
      }));
    case "released":
      return applyReleased(state, record);
    case "filled":
      return changePartition(state, record, (old) => {
        const [move, ...rest] = old.moves;
        if (!isTurnOf(move, record)) return old;
        return { ...old, moves: [{ ...move, filled: BigInt(record.next) }, ...rest] };
      });
    case "taken":
      return applyTaken(state, record);
    case "completed": {
      const known = state.requests.get(record.epoch);
      if (known === undefined || known.open > 0) return state;
      const requests = new Map(state.requests);
      requests.delete(record.epoch);
      return { ...state, requests };
    }
  }
}

function withReport(
  reports: ReadonlyMap<string, Report>,
  { revision, model, configuration }: Ledger & { type: "joined" },
): ReadonlyMap<string, Report> {
  const next = new Map(reports);
  if (model === undefined) next.delete(revision);
  else next.set(revision, configuration === undefined ? { model } : { model, configuration });
  return next;
}

/** Why a request cannot be made now; undefined when it can. */
export function refusal(state: LedgerState, request: Omit<Request, "type" | "at">): string | undefined {
  if (request.epoch <= state.epoch) return `epoch ${request.epoch} is not above ${state.epoch}`;
  if (request.from === request.to) return `${request.to} is to take over from itself`;
  const open = [...state.requests.values()].filter((entry) => entry.open > 0).map((entry) => entry.request);
  const [first, ...others] = open;
  if (others.length > 0) return `requests ${open.map(({ epoch }) => epoch).join(" and ")} are open`;
  if (first !== undefined && !undoes(first, request)) return `request ${first.epoch} is open`;
  for (const place of request.partitions) {
    const partition = partitionState(state, place);
    for (const key of request.instruments) {
      const owner = prospectiveOwner(partition, key);
      if (owner !== request.from) {
        return `${key} on ${placeKey(place)} is ${owner === null ? "nobody's" : `${owner}'s`}, not ${request.from ?? "nobody"}'s`;
      }
    }
  }
  return undefined;
}

function undoes(
  open: Request,
  request: Pick<Request, "instruments" | "from" | "to" | "partitions">,
): boolean {
  const same = (a: readonly string[], b: readonly string[]) =>
    a.length === b.length && a.every((item, i) => item === b[i]);
  return (
    open.from === request.to &&
    open.to === request.from &&
    same(open.instruments, request.instruments) &&
    same(open.partitions.map(placeKey), request.partitions.map(placeKey))
  );
}

/** Who owns a key once everything that is open is done. */
export function prospectiveOwner(state: PartitionState, key: string): string | null {
  const move = state.moves.findLast(({ keys }) => keys.includes(key));
  if (move !== undefined) return move.to;
  return holdingOf(state, key)?.revision ?? null;
}

function applyRequest(state: LedgerState, request: Request): LedgerState {
  const { epoch, instruments: keys, from, to } = request;
  const move: Move = { epoch, keys, from, to, cut: undefined, filled: undefined };
  const partitions = new Map(state.partitions);
  for (const place of request.partitions) {
    const old = partitionState(state, place);
    const holdings = new Map(old.holdings);
    const rest = old.holdings.get(REST);
    // An instrument that gets a name of its own has been one of the rest until now.
    for (const key of keys) if (!holdings.has(key) && rest !== undefined) holdings.set(key, rest);
    partitions.set(placeKey(place), { ...old, holdings, moves: [...old.moves, move] });
  }
  const entry = { request, open: request.partitions.length };
  return { ...state, epoch, partitions, requests: new Map(state.requests).set(epoch, entry) };
}

function applyReleased(state: LedgerState, record: Ledger & { type: "released" }): LedgerState {
  const old = partitionState(state, record);
  const [first, second] = old.moves;
  const cut = BigInt(record.cut);
  if (first?.epoch === record.epoch && first.from === record.revision && first.cut === undefined) {
    const holdings = new Map(old.holdings);
    for (const key of first.keys) {
      const holding = holdings.get(key);
      if (holding !== undefined) holdings.set(key, { ...holding, to: cut });
    }
    const moves = second === undefined ? [{ ...first, cut }] : [{ ...first, cut }, second];
    return setPartition(state, record, { ...old, holdings, moves });
  }
  // The next owner gives back what it has not taken: the first request ends here untaken.
  if (second?.epoch === record.epoch && second.from === record.revision && first?.cut !== undefined) {
    const { to: revision, epoch, cut: from, filled: to = from } = first;
    const holdings = new Map(old.holdings);
    // What it filled in before is its own, whatever the record says.
    if (to > from) for (const key of first.keys) holdings.set(key, { revision, epoch, from, to });
    const next = setPartition(state, record, { ...old, holdings, moves: [{ ...second, cut: to }] });
    return settle(next, first.epoch);
  }
  return state;
}

function applyTaken(state: LedgerState, record: Ledger & { type: "taken" }): LedgerState {
  const old = partitionState(state, record);
  const [move, ...rest] = old.moves;
  if (!isTurnOf(move, record)) return state;
  const { revision, epoch } = record;
  const holding: Holding = { revision, epoch, from: move.cut ?? BigInt(record.cut), to: undefined };
  const holdings = new Map(old.holdings);
  for (const key of move.keys) holdings.set(key, holding);
  return settle(setPartition(state, record, { ...old, holdings, moves: rest }), epoch);
}

/** Whether it is the record's revision that may take the move over now. */
function isTurnOf(
  move: Move | undefined,
  record: { readonly epoch: number; readonly revision: string },
): move is Move {
  if (move?.epoch !== record.epoch || move.to !== record.revision) return false;
  return move.cut !== undefined || move.from === null;
}

function settle(state: LedgerState, epoch: number): LedgerState {
  const entry = state.requests.get(epoch);
  if (entry === undefined) return state;
  return { ...state, requests: new Map(state.requests).set(epoch, { ...entry, open: entry.open - 1 }) };
}

function changePartition(
  state: LedgerState,
  place: Place,
  change: (old: PartitionState) => PartitionState,
): LedgerState {
  const old = partitionState(state, place);
  const next = change(old);
  return next === old ? state : setPartition(state, place, next);
}

function setPartition(state: LedgerState, place: Place, next: PartitionState): LedgerState {
  return { ...state, partitions: new Map(state.partitions).set(placeKey(place), next) };
}

/** Whether a move of these keys moves an instrument: by its name, or as one of the rest. */
export function moves(state: PartitionState, keys: readonly string[], instrument: string): boolean {
  return keys.includes(instrument) || (keys.includes(REST) && !state.holdings.has(instrument));
}

/** What a worker has to write for the ledger before it goes on. */
export type Duty =
  /** Let go of the move's keys: from `cut` on they are the next owner's. */
  | { readonly kind: "release"; readonly epoch: number; readonly cut: bigint }
  /** Write live decisions on `keys` for the records from `fill` up to its position, and take over unless not to `keep`. */
  | {
      readonly kind: "take";
      readonly epoch: number;
      readonly keys: readonly string[];
      readonly cut: bigint;
      readonly fill: bigint;
      readonly keep: boolean;
    };

/**
 * The duty of a revision's worker that has committed everything below `position`; undefined when there is none. It does not
 * take over from a cut below where it began, as it has nothing to make live there: it waits to be asked back.
 */
export function workerDuty(state: PartitionState, revision: string, position: bigint): Duty | undefined {
  const [first, second] = state.moves;
  if (first === undefined) return undefined;
  if (first.cut === undefined && first.from === revision) {
    const cut = releaseCut(state, first, position);
    return cut === undefined ? undefined : { kind: "release", epoch: first.epoch, cut };
  }
  if (first.to !== revision || (first.cut === undefined && first.from !== null)) return undefined;
  const cut = first.cut ?? position;
  const fill = first.filled ?? cut;
  // Asked back before it took over: it gives back what it has.
  if (second !== undefined) return { kind: "release", epoch: second.epoch, cut: fill };
  if (fill < (state.started.get(revision)?.offset ?? 0n)) return undefined;
  return { kind: "take", epoch: first.epoch, keys: first.keys, cut, fill, keep: true };
}

/**
 * Whether what a duty made the worker write has been read. Until then it does nothing else: by what it has read it
 * might give back, as not yet taken, what it has decided already.
 */
export function isDischarged(state: PartitionState, duty: Pick<Duty, "kind" | "epoch">): boolean {
  const move = state.moves.find(({ epoch }) => epoch === duty.epoch);
  return move === undefined || (duty.kind === "release" && move.cut !== undefined);
}

/**
 * The cut when a revision that has committed everything below `position` lets go. Not below where its own decisions
 * begin: it may have taken over before it got there. Where those of some keys begin further on than those of others it has
 * to get there first, as there is one cut for all of them: undefined until then.
 */
function releaseCut(state: PartitionState, move: Move, position: bigint): bigint | undefined {
  const begins = move.keys.map((key) => state.holdings.get(key)?.from ?? 0n);
  const cut = inOrder([...begins, position]).at(-1) as bigint;
  return cut > position && begins.some((from) => from < cut) ? undefined : cut;
}

/** What the conductor writes in the name of a revision that does not answer, having fenced it and read its position. */
export function forcedRelease(
  state: PartitionState,
  revision: string,
  committed: bigint,
): { readonly epoch: number; readonly cut: bigint } | undefined {
  const duty = workerDuty(state, revision, committed);
  return duty?.kind === "release" ? { epoch: duty.epoch, cut: duty.cut } : undefined;
}

/** Whether a revision decides about something there, or is to let go of it or to take it over. */
export function hasDuties(state: PartitionState, revision: string): boolean {
  const owns = [...state.holdings.values()].some(
    (holding) => holding.revision === revision && holding.to === undefined,
  );
  return owns || state.moves.some(({ from, to }) => from === revision || to === revision);
}

/** The revisions whose committed offsets bound where a new revision has to begin. */
export function predecessors(state: PartitionState): ReadonlySet<string> {
  const revisions = new Set<string>();
  for (const { revision } of state.holdings.values()) revisions.add(revision);
  for (const { from, to } of state.moves) {
    if (from !== null) revisions.add(from);
    revisions.add(to);
  }
  return revisions;
}

/**
 * Where a revision may begin: never behind a record that it may be asked to decide. `positions` are those of the
 * predecessors, read before the ledger was: a release that is still to come has its cut there or later. One that is there
 * has it where it says, whoever is to take over: it may go on from that revision to this one. undefined where nothing
 * bounds it.
 */
export function startOffset(
  state: PartitionState,
  revision: string,
  positions: readonly bigint[],
): bigint | undefined {
  const bounds = [...positions];
  for (const { cut, filled } of state.moves) if (cut !== undefined) bounds.push(filled ?? cut);
  // It may have taken over before it got there.
  for (const holding of state.holdings.values()) if (holding.revision === revision) bounds.push(holding.from);
  return inOrder(bounds)[0];
}

function inOrder(offsets: readonly bigint[]): readonly bigint[] {
  return offsets.toSorted((a, b) => (a < b ? -1 : 1));
}

/**
 * Where a revision begins anew that has computed everything below `position` and is behind by more than `owed` records
 * that it need not decide; undefined where it goes on from its position.
 */
export function anewOffset(
  state: PartitionState,
  revision: string,
  position: bigint,
  positions: readonly bigint[],
  owed: bigint,
): bigint | undefined {
  // What is nobody's may be given to one that is behind, and go on from there to this one.
  if (!state.holdings.has(REST)) return undefined;
  const start = startOffset(state, revision, positions);
  return start !== undefined && start - position > owed ? start : undefined;
}

/** Whether a revision goes on from its position wherever the others stand: as it does where it decides on something. */
export function goesOn(state: PartitionState, revision: string, position: bigint, owed: bigint): boolean {
  const bound = startOffset(state, revision, []);
  return bound !== undefined && bound - position <= owed;
}
