// Kafka 4's second transaction protocol (KIP-890, `transaction.version` 2) for kafkajs, which speaks the first only. A
// partition is added to a transaction by writing to it, and the end of each transaction gives the producer its next epoch:
// three requests a transaction where the first protocol takes five, and what arrives late cannot get into the next one.
// Schemas: https://kafka.apache.org/protocol, Produce 12, TxnOffsetCommit 5, EndTxn 5, ApiVersions 3.

/** kafkajs's writer of requests, as far as it is used here. */
interface Encoder {
  readonly buffer: Buffer;
  writeInt16(value: number): Encoder;
  writeInt32(value: number): Encoder;
  writeInt64(value: number | string): Encoder;
  writeBoolean(value: boolean): Encoder;
  writeUVarInt(value: number): Encoder;
  writeUVarIntString(value: string | null): Encoder;
  writeBuffer(value: Buffer): Encoder;
}

/** kafkajs's reader of answers, as far as it is used here. */
interface Decoder {
  offset: number;
  readInt16(): number;
  readInt32(): number;
  readInt64(): { toString(): string };
  readUVarInt(): number;
  readUVarIntString(): string | null;
  readUVarIntArray<T>(read: (decoder: Decoder) => T): T[] | null;
}

interface ApiVersion {
  readonly apiKey: number;
  readonly minVersion: number;
  readonly maxVersion: number;
}

interface Call {
  readonly request: {
    readonly apiKey: number;
    readonly apiVersion: number;
    readonly apiName: string;
    readonly expectResponse?: () => boolean;
    readonly encode: () => Promise<Encoder>;
  };
  readonly response: {
    readonly decode: (answer: Buffer) => Promise<unknown>;
    readonly parse: (decoded: never) => Promise<unknown>;
  };
  readonly logResponseError?: boolean;
}

interface Definition {
  versions: string[];
  protocol: (options: { version: number }) => (values: never) => Call;
}

/** The parts of kafkajs that requests are made of. */
export interface Parts {
  readonly requests: Readonly<Record<"Produce" | "TxnOffsetCommit" | "EndTxn" | "ApiVersions", Definition>>;
  readonly Encoder: new (size?: number) => Encoder;
  readonly Decoder: new (answer: Buffer) => Decoder;
  readonly Record: (record: object) => unknown;
  readonly RecordBatch: (batch: object) => Promise<Encoder>;
  readonly createErrorFromCode: (code: number) => Error;
  readonly errorCodes: { type: string; code: number; retriable: boolean; message: string }[];
}

const PRODUCE = { apiKey: 0, apiName: "Produce", apiVersion: 12, first: 7 };
const API_VERSIONS = { apiKey: 18, apiName: "ApiVersions", apiVersion: 3 };
const END_TXN = { apiKey: 26, apiName: "EndTxn", apiVersion: 5, first: 1 };
const TXN_OFFSET_COMMIT = { apiKey: 28, apiName: "TxnOffsetCommit", apiVersion: 5, first: 1 };
/** The requests in which the protocols differ, and the versions of the first that kafkajs has. */
const SECOND = [PRODUCE, END_TXN, TXN_OFFSET_COMMIT];

const FEATURE = "transaction.version";
const FINALIZED_FEATURES = 2;
const NO_GENERATION = -1;
const NO_LEADER_EPOCH = -1;

/** Whether a broker is told that partitions belong to a transaction by writing to them. */
export function speaksSecond(broker: {
  readonly versions?: Readonly<Record<number, { readonly maxVersion: number }>> | null;
}): boolean {
  return (broker.versions?.[END_TXN.apiKey]?.maxVersion ?? 0) >= END_TXN.apiVersion;
}

/** Adds the versions of the second protocol to kafkajs's requests. */
export function addSecondProtocol(parts: Parts): void {
  const { requests, createErrorFromCode, errorCodes } = parts;
  // Told to those who end a transaction; kafkajs knows what producers were told before.
  if (!errorCodes.some(({ code }) => code === 90)) {
    const message = "There is a newer producer with the same transactionalId which fences the current one";
    errorCodes.push({ type: "PRODUCER_FENCED", code: 90, retriable: false, message });
  }
  const failOn = (codes: readonly number[]) => {
    const code = codes.find((one) => one !== 0);
    if (code !== undefined) throw createErrorFromCode(code);
  };
  add(requests.ApiVersions, API_VERSIONS, () => apiVersions(parts, failOn));
  add(requests.EndTxn, END_TXN, (values: EndTxn) => endTxn(parts, values, failOn));
  add(requests.TxnOffsetCommit, TXN_OFFSET_COMMIT, (values: TxnOffsetCommit) =>
    txnOffsetCommit(parts, values, failOn),
  );
  const first = requests.Produce.protocol({ version: PRODUCE.first });
  add(requests.Produce, PRODUCE, (values: Produce) =>
    // Outside of transactions nothing is different.
    values.transactionalId === undefined ? first(values as never) : produce(parts, values, failOn),
  );
}

function add<T>(
  definition: Definition,
  { apiVersion }: { readonly apiVersion: number },
  call: (values: T) => Call,
): void {
  const { protocol } = definition;
  definition.versions = [...definition.versions, String(apiVersion)];
  definition.protocol = (options) =>
    options.version === apiVersion ? (call as (values: never) => Call) : protocol(options);
}

type FailOn = (codes: readonly number[]) => void;

/** A request's header of the second kind ends with tags, of which there are none; its body as well. */
function flexible({ Encoder }: Parts, write: (body: Encoder) => Encoder, size?: number): Encoder {
  return noTags(write(noTags(new Encoder(size))));
}
function noTags(encoder: Encoder): Encoder {
  return encoder.writeUVarInt(0);
}
function writeArray<T>(encoder: Encoder, list: readonly T[], write: (entry: T) => void): Encoder {
  encoder.writeUVarInt(list.length + 1);
  for (const entry of list) {
    write(entry);
    noTags(encoder);
  }
  return encoder;
}

/** The tags of a structure; `read` gets those that it may want, at their first byte. */
function readTags(decoder: Decoder, read: (tag: number) => void = () => {}): void {
  for (let left = decoder.readUVarInt(); left > 0; left--) {
    const tag = decoder.readUVarInt();
    const end = decoder.readUVarInt();
    const next = decoder.offset + end;
    read(tag);
    decoder.offset = next;
  }
}
function readArray<T>(decoder: Decoder, read: () => T): T[] {
  const one = () => {
    const entry = read();
    readTags(decoder);
    return entry;
  };
  return decoder.readUVarIntArray(one) ?? [];
}

/**
 * What versions a broker has; and of the second protocol only where its cluster has it in force: a broker may know it
 * while others do not, and then goes by the first.
 */
function apiVersions(parts: Parts, failOn: FailOn): Call {
  return {
    logResponseError: false,
    request: {
      ...API_VERSIONS,
      encode: async () => flexible(parts, (body) => body.writeUVarIntString("baton").writeUVarIntString("1")),
    },
    response: {
      decode: async (answer) => {
        const decoder = new parts.Decoder(answer);
        // A broker that does not know the request answers in the oldest way, of which this is the beginning.
        const errorCode = decoder.readInt16();
        failOn([errorCode]);
        const apis = readArray(decoder, () => ({
          apiKey: decoder.readInt16(),
          minVersion: decoder.readInt16(),
          maxVersion: decoder.readInt16(),
        }));
        const clientSideThrottleTime = decoder.readInt32();
        let level = 0;
        readTags(decoder, (tag) => {
          if (tag !== FINALIZED_FEATURES) return;
          const features = readArray(decoder, () => ({
            name: decoder.readUVarIntString(),
            maxVersion: decoder.readInt16(),
            minVersion: decoder.readInt16(),
          }));
          level = features.find(({ name }) => name === FEATURE)?.maxVersion ?? 0;
        });
        return { errorCode, apiVersions: inForce(apis, level), throttleTime: 0, clientSideThrottleTime };
      },
      parse: async (decoded) => decoded,
    },
  };
}

/** The versions of a broker, cut to those of the first transaction protocol where the second is not in force. */
export function inForce(apis: readonly ApiVersion[], level: number): readonly ApiVersion[] {
  const most = (key: number) => apis.find(({ apiKey }) => apiKey === key)?.maxVersion ?? 0;
  if (level >= 2 && SECOND.every(({ apiKey, apiVersion }) => most(apiKey) >= apiVersion)) return apis;
  return apis.map((api) => {
    const different = SECOND.find(({ apiKey }) => apiKey === api.apiKey);
    return different === undefined ? api : { ...api, maxVersion: Math.min(api.maxVersion, different.first) };
  });
}

interface Producer {
  readonly transactionalId: string;
  readonly producerId: string;
  readonly producerEpoch: number;
}

interface EndTxn extends Producer {
  readonly transactionResult: boolean;
}

/** What an end of a transaction is answered with: what the producer goes on with. */
export interface Ended {
  readonly producerId: string;
  readonly producerEpoch: number;
}

function endTxn(parts: Parts, values: EndTxn, failOn: FailOn): Call {
  return {
    request: {
      ...END_TXN,
      encode: async () =>
        flexible(parts, (body) =>
          body
            .writeUVarIntString(values.transactionalId)
            .writeInt64(values.producerId)
            .writeInt16(values.producerEpoch)
            .writeBoolean(values.transactionResult),
        ),
    },
    response: {
      decode: async (answer) => {
        const decoder = new parts.Decoder(answer);
        readTags(decoder);
        const clientSideThrottleTime = decoder.readInt32();
        const errorCode = decoder.readInt16();
        const producerId = decoder.readInt64().toString();
        return { clientSideThrottleTime, errorCode, producerId, producerEpoch: decoder.readInt16() };
      },
      parse: async (decoded: Ended & { readonly errorCode: number }) => {
        failOn([decoded.errorCode]);
        return decoded;
      },
    },
  };
}

interface TxnOffsetCommit extends Producer {
  readonly groupId: string;
  readonly topics: readonly {
    readonly topic: string;
    readonly partitions: readonly {
      readonly partition: number;
      readonly offset: string;
      readonly metadata?: string | null;
    }[];
  }[];
}

function txnOffsetCommit(parts: Parts, values: TxnOffsetCommit, failOn: FailOn): Call {
  return {
    request: {
      ...TXN_OFFSET_COMMIT,
      encode: async () =>
        flexible(parts, (body) => {
          body
            .writeUVarIntString(values.transactionalId)
            .writeUVarIntString(values.groupId)
            .writeInt64(values.producerId)
            .writeInt16(values.producerEpoch)
            // Who is fenced is fenced by the transactional id, not as a member of the group.
            .writeInt32(NO_GENERATION)
            .writeUVarIntString("")
            .writeUVarIntString(null);
          return writeArray(body, values.topics, ({ topic, partitions }) => {
            body.writeUVarIntString(topic);
            writeArray(body, partitions, ({ partition, offset, metadata }) => {
              body.writeInt32(partition).writeInt64(offset).writeInt32(NO_LEADER_EPOCH);
              body.writeUVarIntString(metadata ?? null);
            });
          });
        }),
    },
    response: {
      decode: async (answer) => {
        const decoder = new parts.Decoder(answer);
        readTags(decoder);
        const clientSideThrottleTime = decoder.readInt32();
        const topics = readArray(decoder, () => ({
          topic: decoder.readUVarIntString(),
          partitions: readArray(decoder, () => ({
            partition: decoder.readInt32(),
            errorCode: decoder.readInt16(),
          })),
        }));
        return { clientSideThrottleTime, topics };
      },
      parse: async (decoded: {
        readonly topics: readonly { readonly partitions: readonly Answered[] }[];
      }) => {
        failOn(decoded.topics.flatMap(({ partitions }) => partitions.map(({ errorCode }) => errorCode)));
        return decoded;
      },
    },
  };
}

interface Answered {
  readonly errorCode: number;
}

interface Message {
  readonly timestamp?: string;
}

interface Produce extends Omit<Producer, "transactionalId"> {
  readonly transactionalId: string | undefined;
  readonly acks: number;
  /** Milliseconds. */
  readonly timeout: number;
  readonly compression: number;
  readonly topicData: readonly {
    readonly topic: string;
    readonly partitions: readonly {
      readonly partition: number;
      readonly firstSequence: number;
      readonly messages: readonly Message[];
    }[];
  }[];
}

function produce(parts: Parts, values: Produce, failOn: FailOn): Call {
  const { transactionalId = null, acks, timeout, topicData } = values;
  return {
    request: {
      ...PRODUCE,
      encode: async () => {
        const batches: Buffer[][] = [];
        for (const { partitions } of topicData) {
          const ofTopic: Buffer[] = [];
          for (const entry of partitions) ofTopic.push(await recordBatch(parts, values, entry));
          batches.push(ofTopic);
        }
        const bytes = batches.flat().reduce((sum, batch) => sum + batch.length, 512);
        return flexible(
          parts,
          (body) => {
            body.writeUVarIntString(transactionalId).writeInt16(acks).writeInt32(timeout);
            return writeArray(body, [...topicData.entries()], ([i, { topic, partitions }]) => {
              body.writeUVarIntString(topic);
              writeArray(body, [...partitions.entries()], ([j, { partition }]) => {
                const batch = batches[i]?.[j] as Buffer;
                body
                  .writeInt32(partition)
                  .writeUVarInt(batch.length + 1)
                  .writeBuffer(batch);
              });
            });
          },
          bytes,
        );
      },
    },
    response: {
      decode: async (answer) => {
        const decoder = new parts.Decoder(answer);
        readTags(decoder);
        const topics = readArray(decoder, () => ({
          topicName: decoder.readUVarIntString(),
          partitions: readArray(decoder, () => producedTo(decoder)),
        }));
        return { topics, throttleTime: 0, clientSideThrottleTime: decoder.readInt32() };
      },
      parse: async (decoded: {
        readonly topics: readonly { readonly partitions: readonly Answered[] }[];
      }) => {
        failOn(decoded.topics.flatMap(({ partitions }) => partitions.map(({ errorCode }) => errorCode)));
        return decoded;
      },
    },
  };
}

function producedTo(decoder: Decoder) {
  const produced = {
    partition: decoder.readInt32(),
    errorCode: decoder.readInt16(),
    baseOffset: decoder.readInt64().toString(),
    logAppendTime: decoder.readInt64().toString(),
    logStartOffset: decoder.readInt64().toString(),
  };
  readArray(decoder, () => [decoder.readInt32(), decoder.readUVarIntString()]);
  decoder.readUVarIntString();
  return produced;
}

/** As kafkajs makes one of a partition's messages. */
async function recordBatch(
  { Record, RecordBatch }: Parts,
  { producerId, producerEpoch, compression }: Produce,
  { messages, firstSequence }: Produce["topicData"][number]["partitions"][number],
): Promise<Buffer> {
  const now = Date.now();
  const at = messages.map(({ timestamp }) => Number(timestamp ?? now));
  const firstTimestamp = Math.min(...at);
  const batch = await RecordBatch({
    compression,
    records: messages.map((message, i) =>
      Record({ ...message, offsetDelta: i, timestampDelta: (at[i] ?? now) - firstTimestamp }),
    ),
    firstTimestamp,
    maxTimestamp: Math.max(...at),
    producerId,
    producerEpoch,
    firstSequence,
    transactional: true,
    lastOffsetDelta: messages.length - 1,
  });
  return batch.buffer;
}
