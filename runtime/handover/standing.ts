import { BusError } from "#runtime/bus/errors.ts";
import type { Bus, Leftovers, TimeRange, TransactionalProducer } from "#runtime/bus/port.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { parseOutcome, type ReadOutcome } from "./outcome.ts";
import { type Done, type Mark, noteDone, parseMark } from "./repair.ts";
import { hasDuties, type PartitionState, type Place, placeKey } from "./rules.ts";

// How a revision stands in a partition: its names in Kafka, where it may have written, what it has committed.

interface Deployment {
  readonly bus: Bus;
  readonly deployment: string;
}

export function groupOf(deployment: string, revision: string): string {
  return `${deployment}.${revision}`;
}

export function transactionalId(deployment: string, revision: string, { topic, partition }: Place): string {
  return `${deployment}.${revision}.${topic}.${partition}`;
}

/** Everything that a worker of the partition may have written to. */
export async function leftoversOf(
  bus: Bus,
  deployment: string,
  revision: string,
  place: Place,
): Promise<Leftovers> {
  const admin = await bus.admin();
  const every = async (topic: string) =>
    Array.from({ length: await admin.partitions(topic) }, (_, partition) => ({ topic, partition }));
  const shadow = await every(topics.shadow(deployment));
  const partitions = [
    ...(await every(topics.signals(deployment))),
    ...(await every(topics.deadLetters(deployment))),
    ...shadow.filter(({ partition }) => partition === place.partition % shadow.length),
    { topic: topics.ledger(deployment), partition: 0 },
  ];
  return { partitions, group: groupOf(deployment, revision) };
}

/** What a revision has committed, and which outcomes it has around there. */
export interface Standing {
  readonly position: bigint;
  readonly mark: Mark | undefined;
  readonly done: Map<bigint, Done>;
}

/** A worker's clock may step back by so much between a mark and what follows it. */
const CLOCK_MS = 2_000;

/**
 * What a worker wrote last it wrote within so long of its last commit: it is busy, or has ended. Without a bound a revision
 * that comes back after days would read all of them.
 */
const LAST_MS = 60_000;

/**
 * How a revision stands in a partition, for whoever has fenced it with `producer`; undefined before it has begun there.
 * The topics are asked as well as the position: half of a commit may be lost.
 */
export async function standingOf(
  { bus, deployment }: Deployment,
  revision: string,
  place: Place,
  producer: TransactionalProducer,
): Promise<Standing | undefined> {
  const admin = await bus.admin();
  const found = (await admin.positions(groupOf(deployment, revision), place.topic)).get(place.partition);
  if (found === undefined) return undefined;
  const mark = parseMark(found.metadata);
  const done = new Map<bigint, Done>();
  if (mark === undefined) return { position: found.offset, mark, done };
  const time = { sinceMs: mark.at - CLOCK_MS, untilMs: mark.at + LAST_MS };
  await eachOutcome(deployment, revision, place, producer, time, (outcome) => noteDone(done, outcome));
  return { position: found.offset, mark, done };
}

/** Calls back with a revision's outcomes of a partition that were written in some time. */
async function eachOutcome(
  deployment: string,
  revision: string,
  place: Place,
  producer: TransactionalProducer,
  time: TimeRange,
  onOutcome: (outcome: ReadOutcome) => void,
): Promise<void> {
  const destinations = [
    topics.signals(deployment),
    topics.deadLetters(deployment),
    topics.shadow(deployment),
  ];
  await producer.settled(destinations, time, ({ headers }) => {
    const outcome = parseOutcome(headers);
    if (outcome?.revision === revision && placeKey(outcome) === placeKey(place)) onOutcome(outcome);
  });
}

/**
 * Whoever has begun has a position, with a mark of its own. Where a revision decides, or is to let go or take over, nobody
 * goes on without it: from an earlier position it would decide again. Rejects with UNCERTAIN, to be asked anew. Only
 * where nothing has come of it yet, the half of its beginning that is the position may have been lost.
 */
export async function checkPosition(
  deployment: string,
  state: PartitionState,
  revision: string,
  mark: Mark | undefined,
  place: Place,
  producer: TransactionalProducer,
): Promise<void> {
  const began = state.started.get(revision);
  if (mark !== undefined || began === undefined || !hasDuties(state, revision)) return;
  const time = { sinceMs: began.at - CLOCK_MS, untilMs: Number.POSITIVE_INFINITY };
  await eachOutcome(deployment, revision, place, producer, time, () => {
    throw new BusError(
      "UNCERTAIN",
      `${revision} has begun with ${placeKey(place)}, and no position of its own is there`,
    );
  });
}

/** The position that a revision has committed; undefined before it has begun with the partition. */
export async function committedBy(
  { bus, deployment }: Deployment,
  revision: string,
  place: Place,
): Promise<bigint | undefined> {
  const admin = await bus.admin();
  return (await admin.committed(groupOf(deployment, revision), place.topic)).get(place.partition);
}
