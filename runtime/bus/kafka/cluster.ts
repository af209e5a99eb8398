import type { Kafka, KafkaMessage } from "kafkajs";
import type { Unreadable } from "./batches.ts";

// The requests of kafkajs themselves, for what it has no client for.

export type RawMessage = KafkaMessage & {
  readonly isControlRecord: boolean;
  readonly batchContext: { readonly producerId: string; readonly inTransaction: boolean };
};

/** With the batch behind them that cannot be decoded. */
export type RawMessages = readonly RawMessage[] & { readonly unreadable?: Unreadable };

interface Broker {
  fetch(request: object): Promise<{
    readonly responses: readonly {
      readonly partitions: readonly {
        readonly messages: RawMessages;
      }[];
    }[];
  }>;
}

export interface Cluster {
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  refreshMetadata(): Promise<void>;
  addMultipleTargetTopics(topics: readonly string[]): Promise<void>;
  findBroker(node: { nodeId: string }): Promise<Broker>;
  findLeaderForPartitions(topic: string, partitions: readonly number[]): Readonly<Record<string, unknown>>;
  fetchTopicsOffset(
    topics: readonly {
      readonly topic: string;
      readonly fromBeginning: boolean;
      readonly partitions: readonly { readonly partition: number }[];
    }[],
  ): Promise<
    readonly { readonly partitions: readonly { readonly partition: number; readonly offset: string }[] }[]
  >;
}

export const READ_UNCOMMITTED = 0;

/**
 * Connections that see what has not been committed too, while `use` runs. kafkajs makes them by a function that only its
 * own parts are meant to call.
 */
export async function withCluster<T>(
  kafka: Kafka,
  topics: readonly string[],
  use: (cluster: Cluster) => Promise<T>,
): Promise<T> {
  const symbol = Object.getOwnPropertySymbols(kafka).find(
    ({ description }) => description === "private:Kafka:createCluster",
  );
  const create = symbol && (kafka as unknown as Record<symbol, (options: object) => Cluster>)[symbol];
  if (create === undefined) throw new Error("kafkajs has changed: it makes clusters in another way");
  const cluster = create({
    allowAutoTopicCreation: false,
    metadataMaxAge: 300_000,
    isolationLevel: READ_UNCOMMITTED,
  });
  try {
    await cluster.connect();
    await cluster.addMultipleTargetTopics(topics);
    return await use(cluster);
  } finally {
    await cluster.disconnect().catch(() => {});
  }
}
