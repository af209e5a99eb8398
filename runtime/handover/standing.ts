import type { Bus, Leftovers, TimeRange, TransactionalProducer } from "#runtime/bus/port.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { parseOutcome, type ReadOutcome } from "./outcome.ts";
import { type Done, type Mark, noteDone, parseMark } from "./repair.ts";
import { type PartitionState, type Place, placeKey } from "./rules.ts";

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

/** Between two outcomes of a busy worker there is less than this. */
const SILENCE_MS = 60_000;

/** A worker tells the ledger where it stands once in so long, and with the first batch after a silence. */
export const REACHED_MS = 60_000;

/** A position with what was said of it; what was written about later records was written after that. */
export type Position = Pick<Standing, "position" | "mark">;

/** The position that a revision's group has, as its coordinator says; undefined where it has none. */
export async function positionOf(
  { bus, deployment }: Deployment,
  revision: string,
  { topic, partition }: Place,
): Promise<Position | undefined> {
  const admin = await bus.admin();
  const found = (await admin.positions(groupOf(deployment, revision), topic)).get(partition);
  return found === undefined ? undefined : { position: found.offset, mark: parseMark(found.metadata) };
}

/**
 * The later of the position that the group has and of that which the ledger knows: a coordinator that has just started may
 * know less than its log, for ever (ADR 22). undefined before a revision has begun.
 */
export function latestPosition(
  state: PartitionState,
  revision: string,
  found: Position | undefined,
): Position | undefined {
  const [started, reached] = [state.started.get(revision), state.reached.get(revision)];
  // It has begun anew since, or has come further since it began.
  const told = (reached?.offset ?? -1n) >= (started?.offset ?? -1n) ? reached : started;
  if (told === undefined) return found;
  const { offset, at } = told;
  // A position without a mark is not a worker's.
  const isLater = ({ position, mark }: Position) =>
    mark !== undefined && (position > offset || (position === offset && mark.at >= at));
  if (found !== undefined && isLater(found)) return found;
  return { position: offset, mark: { from: offset, count: 0, kind: "batch", at } };
}

/** What is asked of a revision's topics: all that it writes, or its shadow outcomes alone. */
export type Asked = "everything" | "shadow";

/**
 * How a revision stands in a partition, for whoever has fenced it with `producer`. The topics are asked as well as the
 * position: half of a commit may be lost, or the position may be an older one.
 */
export async function standingOf(
  deployment: string,
  revision: string,
  place: Place,
  producer: TransactionalProducer,
  { position, mark }: Position,
  asked: Asked = "everything",
): Promise<Standing> {
  const done = new Map<bigint, Done>();
  if (mark === undefined) return { position, mark, done };
  // In stretches, for as long as there is more: a revision that was away for days does not read all of them.
  for (let from = mark.at; ; ) {
    const time = { sinceMs: from - CLOCK_MS, untilMs: from + SILENCE_MS };
    let latest = from;
    await eachOutcome(deployment, revision, place, producer, asked, time, (outcome, at) => {
      noteDone(done, outcome);
      latest = Math.max(latest, at);
    });
    if (latest === from || time.untilMs > Date.now()) return { position, mark, done };
    from = latest;
  }
}

/** Calls back with a revision's outcomes of a partition that were written in some time, and with when each was. */
async function eachOutcome(
  deployment: string,
  revision: string,
  place: Place,
  producer: TransactionalProducer,
  asked: Asked,
  time: TimeRange,
  onOutcome: (outcome: ReadOutcome, at: number) => void,
): Promise<void> {
  const decided = asked === "everything" ? [topics.signals(deployment), topics.deadLetters(deployment)] : [];
  const destinations = [...decided, topics.shadow(deployment)];
  await producer.settled(destinations, time, ({ headers, timestamp }) => {
    const outcome = parseOutcome(headers);
    if (outcome?.revision === revision && placeKey(outcome) === placeKey(place))
      onOutcome(outcome, timestamp);
  });
}
