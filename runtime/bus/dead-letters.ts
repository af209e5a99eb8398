import { createHash } from "node:crypto";
import type { Bus, InRecord, OutRecord, TopicPartition } from "./port.ts";
import { readToEnd } from "./read.ts";

/** A value longer than this is cut in the dead letter; the original can be read at its place. */
export const MAX_DEAD_VALUE = 256 * 1024;

const PREFIX = "baton-dl-";
const HEADER = {
  topic: `${PREFIX}topic`,
  partition: `${PREFIX}partition`,
  offset: `${PREFIX}offset`,
  timestamp: `${PREFIX}timestamp`,
  code: `${PREFIX}code`,
  error: `${PREFIX}error`,
  attempts: `${PREFIX}attempts`,
  truncated: `${PREFIX}truncated-from`,
  digest: `${PREFIX}sha256`,
} as const;

/** Says how often a record has been replayed; counted on by the next dead letter. */
export const REPLAYS_HEADER = "baton-replays";

export interface Reason {
  /** Stable code, such as NOT_JSON. */
  readonly code: string;
  readonly error: string;
}

/** A record that could not be used, as it is kept: value and headers as they were, and where and why it failed. */
export function deadLetter(record: InRecord, reason: Reason, topic: string): OutRecord {
  const { value } = record;
  const cut = value !== null && value.length > MAX_DEAD_VALUE;
  const replays = Number(record.headers[REPLAYS_HEADER] ?? 0) || 0;
  return {
    topic,
    // The same key keeps an instrument's dead letters in order.
    ...(record.key === undefined ? { key: `${record.topic}/${record.partition}` } : { key: record.key }),
    value: cut ? value.subarray(0, MAX_DEAD_VALUE) : value,
    headers: {
      ...withoutLarge(record.headers),
      [HEADER.topic]: record.topic,
      [HEADER.partition]: String(record.partition),
      [HEADER.offset]: String(record.offset),
      [HEADER.timestamp]: String(record.timestamp),
      [HEADER.code]: reason.code,
      [HEADER.error]: reason.error.slice(0, 1_000),
      [HEADER.attempts]: String(replays + 1),
      ...(cut
        ? {
            [HEADER.truncated]: String(value.length),
            [HEADER.digest]: createHash("sha256").update(value).digest("hex"),
          }
        : {}),
    },
  };
}

/** Headers small enough to be kept beside ours. */
function withoutLarge(headers: InRecord["headers"]): Record<string, string> {
  const kept: Record<string, string> = {};
  let bytes = 0;
  for (const [name, value] of Object.entries(headers)) {
    bytes += name.length + value.length;
    if (bytes > 16_384) break;
    kept[name] = value;
  }
  return kept;
}

/** A dead letter, read. */
export interface DeadLetter extends Reason {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  /** How often the record has failed. */
  readonly attempts: number;
  /** Length of the original value when it was cut. */
  readonly truncatedFrom: number | undefined;
  readonly record: InRecord;
}

/** Reads a record of a dead-letter topic; undefined when it is not a dead letter. */
export function parseDeadLetter(record: InRecord): DeadLetter | undefined {
  const { headers } = record;
  const topic = headers[HEADER.topic];
  const partition = headers[HEADER.partition] ?? "";
  const offset = headers[HEADER.offset] ?? "";
  if (topic === undefined || !/^\d+$/.test(partition) || !/^\d+$/.test(offset)) return undefined;
  const truncated = headers[HEADER.truncated];
  return {
    topic,
    partition: Number(partition),
    offset: BigInt(offset),
    code: headers[HEADER.code] ?? "UNKNOWN",
    error: headers[HEADER.error] ?? "",
    attempts: Number(headers[HEADER.attempts] ?? 1),
    truncatedFrom: truncated === undefined ? undefined : Number(truncated),
    record,
  };
}

/** The record to send again to where the dead letter came from; undefined when its value was cut. */
export function replayRecord(letter: DeadLetter): OutRecord | undefined {
  if (letter.truncatedFrom !== undefined) return undefined;
  const { record } = letter;
  // What we said about the record is not the record's; its schema is.
  const headers = Object.fromEntries(
    Object.entries(record.headers).filter(([name]) => !name.startsWith("baton-") || name === "baton-schema"),
  );
  return {
    topic: letter.topic,
    partition: letter.partition,
    ...(record.key === undefined ? {} : { key: record.key }),
    value: record.value,
    headers: { ...headers, [REPLAYS_HEADER]: String(letter.attempts) },
  };
}

export interface ReplayOptions {
  /** Only letters with this code. */
  readonly code?: string;
  /** Only letters from this topic. */
  readonly from?: string;
  /** Letters that have failed this often or more are left. Default 5. */
  readonly maxAttempts?: number;
  /** Counts only. */
  readonly dryRun?: boolean;
  readonly onLetter?: (letter: DeadLetter, outcome: "replayed" | "skipped") => void;
}

export interface ReplayResult {
  readonly replayed: number;
  readonly skipped: number;
  readonly places: readonly TopicPartition[];
}

/** Sends the records of a dead-letter topic to where they came from. The letters stay: the topic is a record. */
export async function replayDeadLetters(
  bus: Bus,
  topic: string,
  options: ReplayOptions = {},
): Promise<ReplayResult> {
  const producer = options.dryRun ? undefined : await bus.producer();
  const places = new Map<string, TopicPartition>();
  let replayed = 0;
  let skipped = 0;
  await readToEnd(bus, topic, async (record) => {
    const letter = parseDeadLetter(record);
    if (letter === undefined) return;
    const chosen =
      (options.code === undefined || letter.code === options.code) &&
      (options.from === undefined || letter.topic === options.from) &&
      letter.attempts < (options.maxAttempts ?? 5);
    const again = chosen ? replayRecord(letter) : undefined;
    if (again !== undefined) {
      await producer?.send(again);
      places.set(`${letter.topic}/${letter.partition}`, { topic: letter.topic, partition: letter.partition });
      replayed += 1;
    } else skipped += 1;
    options.onLetter?.(letter, again === undefined ? "skipped" : "replayed");
  });
  await producer?.close();
  return { replayed, skipped, places: [...places.values()] };
}
