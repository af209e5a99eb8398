import { setTimeout as sleep } from "node:timers/promises";
import { type Ended, speaksSecond } from "./second-protocol.ts";

// kafkajs asks the cluster where a coordinator is before each request to it: five times a transaction. And where the
// coordinator is busy, with the markers of the last transaction or with another request for the same one, it looks at all
// metadata anew, or gives up. Here the coordinator is remembered, gets one request at a time, and is asked again at once.

/** The requests of a producer that go to a coordinator. */
const REQUESTS = [
  "initProducerId",
  "addPartitionsToTxn",
  "addOffsetsToTxn",
  "txnOffsetCommit",
  "endTxn",
] as const;
type Coordinator = Record<(typeof REQUESTS)[number], (request: unknown) => Promise<unknown>>;
type Broker = Coordinator & { isConnected(): boolean } & Parameters<typeof speaksSecond>[0];
/** By the second protocol writing is enough. */
const ADDITIONS: ReadonlySet<string> = new Set(["addPartitionsToTxn", "addOffsetsToTxn"]);

export interface CoordinatorId {
  readonly groupId: string;
  readonly coordinatorType?: number;
}

/** Name of an error: the coordinator of a transaction was lost, and with it what has become of the latest one. */
export const UNCERTAIN = "UncertainTransactionError";

class UncertainTransactionError extends Error {
  override readonly name = UNCERTAIN;
  /** kafkajs would go on with another connection. */
  readonly retriable = false;
}

/** kafkajs's number for the coordinator of transactions; that of groups is 0. */
const TRANSACTIONS = 1;
/** A coordinator that was lost so long after its last answer has finished the transaction that it answered about. */
const SETTLED_MS = 60_000;

interface Cluster {
  findGroupCoordinator(id: CoordinatorId): Promise<Broker>;
}

/** The coordinator has moved, or is about to know its partitions: it is looked up again. */
const MOVED = new Set([
  "NOT_COORDINATOR_FOR_GROUP",
  "GROUP_COORDINATOR_NOT_AVAILABLE",
  "GROUP_LOAD_IN_PROGRESS",
]);
const MOVED_WAIT_MS = 100;
/** The coordinator of transactions writes the markers of the last one. */
const BUSY = "CONCURRENT_TRANSACTIONS";
/** Mostly it takes 2 ms, now and then 50: to wait longer each time would come too late. */
const busyWaitMs = (tried: number) => (tried < 6 ? 1 : tried < 50 ? 2 : 10);
/** After that the caller decides. */
const GIVE_UP_MS = 15_000;

export interface Remembering {
  /** Whether the last transaction's end was answered with what the producer goes on with, and that was not asked for yet. */
  hasNext(): boolean;
}

/** The cluster with coordinators that are remembered while they are connected and answer. */
export function rememberingCoordinators<T extends Cluster>(cluster: T): T & Remembering {
  const known = new Map<string, Broker>();
  /** The latest request to each coordinator. */
  const latest = new Map<string, Promise<unknown>>();
  /** When each coordinator answered last. */
  const answered = new Map<string, number>();
  /** The producer's id and epoch after its last transaction, by the second protocol. */
  let next: Ended | undefined;

  /** One request after another: of two at once for a transaction one is refused. */
  function inTurn(id: CoordinatorId, name: keyof Coordinator, request: unknown): Promise<unknown> {
    const key = keyOf(id);
    const before = latest.get(key) ?? Promise.resolve();
    const answer = before.then(() => ask(id, name, request));
    latest.set(
      key,
      answer.catch(() => {}),
    );
    return answer;
  }

  async function ask(
    id: CoordinatorId,
    name: keyof Coordinator,
    request: unknown,
    explicitly = false,
  ): Promise<unknown> {
    const key = keyOf(id);
    if (name === "initProducerId" && next !== undefined) {
      const known = next;
      next = undefined;
      return known;
    }
    const deadline = Date.now() + GIVE_UP_MS;
    // Asking for a producer id settles whatever there was.
    const inTransaction = id.coordinatorType === TRANSACTIONS && name !== "initProducerId";
    for (let tried = 0; ; tried++) {
      let broker = known.get(key);
      if (broker?.isConnected() !== true) {
        // A broker that was killed may come back with half of what it had answered about (ADR 13).
        if (broker !== undefined && inTransaction && Date.now() - (answered.get(key) ?? 0) < SETTLED_MS)
          throw new UncertainTransactionError("the coordinator's connection was lost");
        broker = await cluster.findGroupCoordinator(id);
        known.set(key, broker);
      }
      try {
        const second = speaksSecond(broker);
        if (second && ADDITIONS.has(name) && !explicitly) return {};
        if (second && name === "txnOffsetCommit" && isEmpty(request)) return await addGroup(request);
        const answer = await broker[name](request);
        answered.set(key, Date.now());
        if (second && name === "endTxn") next = answer as Ended;
        return answer;
      } catch (error) {
        const type = error instanceof Error && "type" in error ? String(error.type) : "";
        if (type === "" && inTransaction) throw new UncertainTransactionError(String(error));
        if (type !== BUSY) known.delete(key);
        if ((type !== BUSY && !MOVED.has(type)) || Date.now() > deadline) throw error;
        await sleep(type === BUSY ? busyWaitMs(tried) : MOVED_WAIT_MS);
      }
    }
  }

  /** A group of which no position is written gets its marker all the same. */
  function addGroup(request: unknown): Promise<unknown> {
    const { transactionalId } = request as { readonly transactionalId: string };
    const id = { groupId: transactionalId, coordinatorType: TRANSACTIONS };
    return ask(id, "addOffsetsToTxn", request, true);
  }

  const findGroupCoordinator = async (id: CoordinatorId): Promise<Coordinator> =>
    Object.fromEntries(
      REQUESTS.map((name) => [name, (request: unknown) => inTurn(id, name, request)]),
    ) as Coordinator;
  return Object.assign(Object.create(cluster) as T, {
    findGroupCoordinator,
    hasNext: () => next !== undefined,
  });
}

function isEmpty(request: unknown): boolean {
  const { topics } = request as { readonly topics: readonly { readonly partitions: readonly unknown[] }[] };
  return topics.every(({ partitions }) => partitions.length === 0);
}

function keyOf({ groupId, coordinatorType = 0 }: CoordinatorId): string {
  return `${coordinatorType}/${groupId}`;
}
