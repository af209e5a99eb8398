import { randomUUID } from "node:crypto";
import type { TransactionalProducer } from "#runtime/bus/port.ts";
import { ledgerRecord } from "./ledger.ts";
import { encodeMark, type Mark } from "./repair.ts";
import type { Revision } from "./revision.ts";
import {
  anewOffset,
  goesOn,
  type PartitionState,
  type Place,
  partitionState,
  predecessors,
  type Report,
  startOffset,
} from "./rules.ts";
import { groupOf, latestPosition, type Position, positionOf, type Standing, standingOf } from "./standing.ts";

// How a worker joins a partition, and where a revision begins with one, or begins anew (ADR 36).

/**
 * Writes into the ledger and waits until that can be read: then everything that came before has been read, also what
 * an open transaction of another writer holds back from readers who go by the log's end.
 */
export async function readLedger(
  {
    deployment,
    revision,
    report,
    follower,
  }: Pick<Revision, "deployment" | "revision" | "follower"> & { readonly report?: Report },
  place: Place,
  producer: TransactionalProducer,
  signal: AbortSignal,
): Promise<void> {
  const worker = randomUUID();
  const record = { type: "joined", at: Date.now(), revision, ...place, worker, ...report } as const;
  await producer.commit({ records: [ledgerRecord(deployment, record)] });
  await follower.until((state) => partitionState(state, place).workers.get(revision) === worker, signal);
}

/**
 * Reads the ledger and says where a worker goes on whose revision's group has the position `found`. A revision that is new
 * begins where those who decide have got to; so does one that is far behind them and owes nothing on the way.
 */
export async function join(
  shared: Revision,
  place: Place,
  producer: TransactionalProducer,
  found: Position | undefined,
  signal: AbortSignal,
): Promise<Standing> {
  const { revision, follower, owedRecords, unsafe } = shared;
  const owed = BigInt(owedRecords);
  const present = () => partitionState(follower.state, place);
  // Whose positions are of interest a process that has just been started has yet to read.
  if (present().holdings.size === 0 && unsafe !== "ledger-read") await follower.untilEnd();
  for (;;) {
    const before = present();
    // Their positions first, the ledger after: who lets go in between does so at a later offset.
    const known = found !== undefined && goesOn(before, revision, found.position, owed);
    const others = known ? new Map<string, Position>() : await othersOf(shared, before, place);
    if (unsafe !== "ledger-read" || found === undefined) await readLedger(shared, place, producer, signal);
    const state = present();
    const latest = latestPosition(state, revision, found);
    const stay = () => goOn(shared, place, producer, found, latest as Position);
    if (latest !== undefined && goesOn(state, revision, latest.position, owed)) return stay();
    if ([...predecessors(state)].some((id) => id !== revision && !others.has(id))) continue;
    const positions = [...others].flatMap(([id, at]) => latestPosition(state, id, at)?.position ?? []);
    if (latest === undefined) {
      const start = startOffset(state, revision, positions) ?? (await firstOffset(shared, state, place));
      return begin(shared, place, producer, start, undefined);
    }
    const start = await anew(shared, place, producer, state, latest, positions);
    return start === undefined ? stay() : begin(shared, place, producer, start, latest.position);
  }
}

/** What is known of where it stands. Where the ledger knows more the group is told: others go by that on an idle partition. */
async function goOn(
  shared: Revision,
  place: Place,
  producer: TransactionalProducer,
  found: Position | undefined,
  latest: Position,
): Promise<Standing> {
  const standing = await standingOf(shared.deployment, shared.revision, place, producer, latest);
  if ((found?.position ?? -1n) < latest.position) await tellGroup(shared, place, producer, latest);
  return standing;
}

/** Where those stand from whom this revision may be asked to take over; undefined for one whose group has no position. */
async function othersOf(
  shared: Revision,
  state: PartitionState,
  place: Place,
): Promise<ReadonlyMap<string, Position | undefined>> {
  const others = [...predecessors(state)].filter((id) => id !== shared.revision);
  return new Map(
    await Promise.all(others.map(async (id) => [id, await positionOf(shared, id, place)] as const)),
  );
}

/** Where a revision without predecessors begins. */
async function firstOffset(
  { bus, from, follower }: Revision,
  { holdings, moves }: PartitionState,
  { topic, partition }: Place,
): Promise<bigint> {
  const ends = (await (await bus.admin()).offsets(topic)).get(partition);
  // A partition that was added later: the others are decided already, this one is to be from its first record.
  const added = follower.state.epoch > 0 && holdings.size === 0 && moves.length === 0;
  return ends?.[added ? "earliest" : from] ?? 0n;
}

/** Where a revision begins anew; undefined where it goes on, as with what it has written behind its position it is not far. */
async function anew(
  { deployment, revision, owedRecords }: Revision,
  place: Place,
  producer: TransactionalProducer,
  state: PartitionState,
  latest: Position,
  positions: readonly bigint[],
): Promise<bigint | undefined> {
  const owed = BigInt(owedRecords);
  const start = anewOffset(state, revision, latest.position, positions, owed);
  if (start === undefined) return undefined;
  // What it has made live lies below what it let go at. Of all who decide meanwhile there would be much to read.
  const owns = [...state.holdings.values()].some((holding) => holding.revision === revision);
  const isAsked = state.moves.some(({ from, to }) => from === revision || to === revision);
  const asked = owns || isAsked ? "everything" : "shadow";
  const { position, done } = await standingOf(deployment, revision, place, producer, latest, asked);
  const written = [...done.keys()].reduce((end, offset) => (offset >= end ? offset + 1n : end), position);
  return start - written > owed ? start : undefined;
}

/** Says where a revision begins with a partition. A crash before the first batch does not move that. */
async function begin(
  shared: Revision,
  place: Place,
  producer: TransactionalProducer,
  start: bigint,
  left: bigint | undefined,
): Promise<Standing> {
  const { deployment, revision, metrics } = shared;
  const at = Date.now();
  const record = { type: "started", at, revision, ...place, offset: String(start) } as const;
  // The ledger first, by itself: of a commit of both one half may be lost (ADR 13), and it is the ledger that counts.
  await producer.commit({
    records: [ledgerRecord(deployment, left === undefined ? record : { ...record, left: String(left) })],
  });
  const mark: Mark = { from: start, count: 0, kind: "batch", at };
  await tellGroup(shared, place, producer, { position: start, mark });
  if (left !== undefined) metrics.leftOut.inc(Number(start - left));
  return { position: start, mark, done: new Map() };
}

async function tellGroup(
  { deployment, revision }: Revision,
  place: Place,
  producer: TransactionalProducer,
  { position, mark }: Position,
): Promise<void> {
  if (mark === undefined) return;
  const group = groupOf(deployment, revision);
  const positions = [{ ...place, offset: position }];
  await producer.commit({ records: [], offsets: { group, positions, metadata: encodeMark(mark) } });
}
