import { createRequire } from "node:module";
import { sep } from "node:path";
import type * as KafkaJs from "kafkajs";
import { type DecodingParts, decodingMessages, type Message, type Unreadable } from "./batches.ts";
import { rememberingCoordinators } from "./coordinator.ts";
import { decodeRecord, encodeRecord } from "./record.ts";
import { addSecondProtocol, type Parts } from "./second-protocol.ts";

// kafkajs with some functions of it replaced. Its filter of aborted transactions (src/consumer/filterAbortedMessages.js,
// 2.2.4) enters at most one of them a message and takes their list to be in the order of their first offsets, while
// brokers give it in the order of their ends: with two of them open at once, what was aborted is handed out as
// committed. Its manager of transactions is given a cluster that remembers coordinators and speaks Kafka 4's transaction
// protocol, records are written and read in a quicker way, what it repeats for ever can be ended, its brokers can be
// asked by several at once, a batch that cannot be decoded is told apart from an answer that failed, consumers say what
// brokers answer, and no timer is set to a time that is past. None of that is to be reached from outside, so a copy of the library is loaded that has ours instead.

interface Fetched {
  readonly messages: readonly Message[];
  /** What the broker says was aborted, in any order. */
  readonly abortedTransactions?:
    | readonly { readonly producerId: string; readonly firstOffset: string }[]
    | null;
}

/** The messages of a fetch, in order, without those of aborted transactions. */
export function withoutAborted({ messages, abortedTransactions }: Fetched): readonly Message[] {
  if (!abortedTransactions?.length) return messages;
  const ahead = abortedTransactions
    .map(({ producerId, firstOffset }) => ({ producerId, firstOffset: BigInt(firstOffset) }))
    .toSorted((a, b) => (a.firstOffset < b.firstOffset ? -1 : 1));
  const open = new Set<string>();
  let next = 0;
  return messages.filter((message) => {
    const offset = BigInt(message.offset);
    for (let entry = ahead[next]; entry !== undefined && entry.firstOffset <= offset; entry = ahead[++next]) {
      open.add(entry.producerId);
    }
    const { producerId, inTransaction } = message.batchContext;
    if (message.isControlRecord) {
      // A marker ends the transaction of its producer. Those that commit are not in the list.
      open.delete(producerId);
      return true;
    }
    return !(inTransaction && open.has(producerId));
  });
}

type Attempt = (bail: (error: Error) => void, ...more: unknown[]) => Promise<unknown>;
type Retriers = (options?: { readonly signal?: AbortSignal }) => (attempt: Attempt) => Promise<unknown>;

/** The library's retriers; those with a signal try no more when it is given, and reject with its reason. */
function endingRetriers(create: Retriers): Retriers {
  return (options = {}) => {
    const retrier = create(options);
    const { signal } = options;
    if (signal === undefined) return retrier;
    return (attempt) =>
      retrier(async (bail, ...more) => {
        if (signal.aborted) return bail(signal.reason);
        return attempt(bail, ...more);
      });
  };
}

interface Manager {
  initProducerId(): Promise<void>;
  commit(): Promise<void>;
  abort(): Promise<void>;
}
type CreateManager = (options: {
  readonly cluster: Parameters<typeof rememberingCoordinators>[0];
}) => Manager;

/** Managers of transactions that remember coordinators, and go on with the epoch that the last transaction ended with. */
function endingWithNextEpoch(create: CreateManager): CreateManager {
  return (options) => {
    const cluster = rememberingCoordinators(options.cluster);
    const manager = create({ ...options, cluster });
    const renewing = (end: () => Promise<void>) => async () => {
      await end();
      // Answered from memory; with a new epoch its sequences begin again.
      if (cluster.hasNext()) await manager.initProducerId();
    };
    return { ...manager, commit: renewing(manager.commit), abort: renewing(manager.abort) };
  };
}

export interface Broker {
  connect(): Promise<void>;
  isConnected(): boolean;
}
export type Brokers = new (...options: unknown[]) => Broker;
export interface Pool {
  brokers: Record<number, Broker>;
  seedBroker: Broker | undefined;
  connect(): Promise<void>;
  removeBroker(address: object): void;
  findConnectedBroker(): Promise<Broker>;
}
export type Pools = new (...options: unknown[]) => Pool;

/**
 * Brokers that are connected when they can be asked. The library's say so as soon as there is a connection, before they
 * know which requests the broker understands; what somebody else asks of them meanwhile fails, and is not tried again.
 */
export function readyBroker(Base: Brokers): Brokers {
  return class extends Base {
    #ready = false;

    override async connect(): Promise<void> {
      await super.connect();
      this.#ready = true;
    }

    override isConnected(): boolean {
      return this.#ready && super.isConnected();
    }
  };
}

/**
 * Pools of brokers that several may ask while connections are lost. The library's has nobody to ask once its last broker
 * is removed, and hands out one that somebody else has just put in place and not connected yet.
 */
export function steadyPool(Base: Pools): Pools {
  return class extends Base {
    override removeBroker(address: object): void {
      const seed = this.seedBroker;
      super.removeBroker(address);
      this.seedBroker ??= seed;
    }

    override async findConnectedBroker(): Promise<Broker> {
      for (;;) {
        const broker = await super.findConnectedBroker();
        if (broker.isConnected()) return broker;
      }
    }
  };
}

interface Queue {
  readonly pending: readonly unknown[];
  scheduleCheckPendingRequests(): void;
}
export type Queues = new (...options: unknown[]) => Queue;

/**
 * Queues of requests that wake up for what waits in them. The library's sets a timer after each answer as well when nothing
 * waits, to a time that is past: Node 24 warns of that.
 */
export function idleQueue(Base: Queues): Queues {
  return class extends Base {
    override scheduleCheckPendingRequests(): void {
      if (this.pending.length > 0) super.scheduleCheckPendingRequests();
    }
  };
}

interface PartitionData {
  readonly lastStableOffset?: string;
  readonly messages: { readonly unreadable?: Unreadable };
}
interface FetchedBatch {
  readonly topic: string;
  readonly partition: number;
  /** Offset that was asked for. */
  readonly fetchedOffset: string;
  readonly highWatermark: string;
  readonly rawMessages: readonly unknown[];
}
type Batches = new (topic: string, fetchedOffset: string, data: PartitionData) => FetchedBatch;

/** What a broker has answered for a partition. */
export interface Answer extends FetchedBatch {
  /** Where readers of committed records get to; older brokers do not say. */
  readonly lastStableOffset?: string | undefined;
  /** The batch at `fetchedOffset`. */
  readonly unreadable?: Unreadable | undefined;
}

/** Batches that keep all that a broker has said. */
function tellingBatch(Base: Batches): Batches {
  return class extends Base implements Answer {
    readonly lastStableOffset: string | undefined;
    readonly unreadable: Unreadable | undefined;

    constructor(topic: string, fetchedOffset: string, data: PartitionData) {
      super(topic, fetchedOffset, data);
      this.lastStableOffset = data.lastStableOffset;
      this.unreadable = data.messages.unreadable;
    }
  };
}

interface Group {
  readonly instrumentationEmitter: { emit(event: string, payload: object): void };
  fetch(nodeId: string): Promise<readonly Answer[]>;
}
type Groups = new (...options: unknown[]) => Group;

/** Members of groups that tell what brokers answer, also where no record is handed out for it. */
function tellingGroup(Base: Groups): Groups {
  return class extends Base {
    override async fetch(nodeId: string): Promise<readonly Answer[]> {
      const answers = await super.fetch(nodeId);
      this.instrumentationEmitter.emit("consumer.fetch", { nodeId, answers });
      return answers;
    }
  };
}

function load(): typeof KafkaJs {
  const require = createRequire(import.meta.url);
  const filter = require.resolve("kafkajs/src/consumer/filterAbortedMessages.js");
  const folder = filter.slice(0, filter.lastIndexOf(`${sep}src${sep}`));
  // Somebody may have loaded it before; it loads parts of itself late, so that copy must not be found again.
  for (const path of Object.keys(require.cache)) {
    if (path.startsWith(`${folder}${sep}`)) delete require.cache[path];
  }
  /** Loads a file and replaces what it exports, before anything else asks for it. */
  const replace = <T>(file: string, change: (exported: T) => T): void => {
    const path = require.resolve(file);
    const exported = require(path) as T;
    const entry = require.cache[path];
    if (entry === undefined) throw new Error(`kafkajs cannot be loaded with our part of ${file}`);
    entry.exports = change(exported);
  };
  replace<Queues>("kafkajs/src/network/requestQueue/index.js", idleQueue);
  replace("kafkajs/src/protocol/requests/fetch/v4/decodeMessages.js", () =>
    decodingMessages({
      Decoder: require("kafkajs/src/protocol/decoder.js") as DecodingParts["Decoder"],
      crc32C: require("kafkajs/src/protocol/recordBatch/crc32C/index.js") as DecodingParts["crc32C"],
      decodeMessageSet:
        require("kafkajs/src/protocol/messageSet/decoder.js") as DecodingParts["decodeMessageSet"],
    }),
  );
  replace<Retriers>("kafkajs/src/retry/index.js", endingRetriers);
  replace<Brokers>("kafkajs/src/broker/index.js", readyBroker);
  replace<Pools>("kafkajs/src/cluster/brokerPool.js", steadyPool);
  replace("kafkajs/src/protocol/recordBatch/record/v0/index.js", () => encodeRecord);
  replace("kafkajs/src/protocol/recordBatch/record/v0/decoder.js", () => decodeRecord);
  replace("kafkajs/src/consumer/filterAbortedMessages.js", () => withoutAborted);
  replace<Batches>("kafkajs/src/consumer/batch.js", tellingBatch);
  replace<Groups>("kafkajs/src/consumer/consumerGroup.js", tellingGroup);
  const { RecordBatch } = require("kafkajs/src/protocol/recordBatch/v0/index.js") as Pick<
    Parts,
    "RecordBatch"
  >;
  addSecondProtocol({
    RecordBatch,
    ...(require("kafkajs/src/protocol/requests/index.js") as Pick<Parts, "requests">),
    ...(require("kafkajs/src/protocol/error.js") as Pick<Parts, "createErrorFromCode" | "errorCodes">),
    Encoder: require("kafkajs/src/protocol/encoder.js") as Parts["Encoder"],
    Decoder: require("kafkajs/src/protocol/decoder.js") as Parts["Decoder"],
    Record: encodeRecord,
  });
  replace<CreateManager>("kafkajs/src/producer/eosManager/index.js", endingWithNextEpoch);
  return require("kafkajs") as typeof KafkaJs;
}

export const kafkajs = load();
