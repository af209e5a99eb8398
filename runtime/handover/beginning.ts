import { randomUUID } from "node:crypto";
import type { TransactionalProducer } from "#runtime/bus/port.ts";
import { ledgerRecord } from "./ledger.ts";
import { encodeMark } from "./repair.ts";
import type { Revision } from "./revision.ts";
import { type Place, partitionState, predecessors, type Report, startOffset } from "./rules.ts";
import { groupOf, latestPosition, positionOf } from "./standing.ts";

// How a worker joins a partition, and where a revision begins with one.

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

/** Chooses and commits where a revision begins with a partition. */
export async function begin(
  shared: Revision,
  place: Place,
  producer: TransactionalProducer,
  signal: AbortSignal,
): Promise<bigint> {
  const { bus, deployment, revision, follower } = shared;
  for (;;) {
    // Their positions first, the ledger after: who lets go in between does so at a later offset.
    const others = [...predecessors(partitionState(follower.state, place))].filter((id) => id !== revision);
    const known = await Promise.all(others.map((id) => positionOf(shared, id, place)));
    await readLedger(shared, place, producer, signal);
    const state = partitionState(follower.state, place);
    if ([...predecessors(state)].some((id) => id !== revision && !others.includes(id))) continue;
    const positions = others.flatMap(
      (id, i) => latestPosition(state, id, known[i], Date.now())?.position ?? [],
    );
    let start = startOffset(state, revision, positions);
    if (start === undefined) {
      const { topic, partition } = place;
      const ends = (await (await bus.admin()).offsets(topic)).get(partition);
      // A partition that was added later: the others are decided already, this one is to be from its first record.
      const added = follower.state.epoch > 0 && state.holdings.size === 0 && state.moves.length === 0;
      start = ends?.[added ? "earliest" : shared.from] ?? 0n;
    }
    const record = { type: "started", at: Date.now(), revision, ...place, offset: String(start) } as const;
    // Kept at once: a crash before the first batch must not move the beginning.
    await producer.commit({
      records: [ledgerRecord(deployment, record)],
      offsets: {
        group: groupOf(deployment, revision),
        positions: [{ ...place, offset: start }],
        metadata: encodeMark({ from: start, count: 0, kind: "batch", at: record.at }),
      },
    });
    return start;
  }
}
