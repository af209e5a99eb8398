import { setTimeout as sleep } from "node:timers/promises";
import type { Bus, InRecord } from "#runtime/bus/port.ts";
import { readToEnd } from "#runtime/bus/read.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { HandoverError } from "../errors.ts";
import { parseLedger } from "../ledger.ts";
import { parseOutcome } from "../outcome.ts";
import { parseMark } from "../repair.ts";
import { type Place, placeKey } from "../rules.ts";
import { groupOf } from "../standing.ts";
import { type Committed, HistoryChecker, type Source, type Verdict } from "./verify.ts";

const MARKERS_MS = 1_000;

export interface HistoryProgress {
  readonly topic: string;
  readonly records: number;
}

/**
 * Reads everything that is kept of a deployment's topics and checks it. The deployment may be running: what is
 * committed while this reads is counted as pending. Rejects with NO_LEDGER.
 */
export async function verifyHistory(
  bus: Bus,
  deployment: string,
  onProgress: (progress: HistoryProgress) => void = () => {},
): Promise<Verdict> {
  const admin = await bus.admin();
  const existing = new Set(await admin.topics());
  if (!existing.has(topics.ledger(deployment))) throw new HandoverError("NO_LEDGER", deployment);
  const checker = new HistoryChecker();
  let records = 0;
  const read = async (topic: string, onRecord: (record: InRecord) => void) => {
    if (!existing.has(topic)) return;
    await readToEnd(bus, topic, (record) => {
      records += 1;
      if (records % 100_000 === 0) onProgress({ topic, records });
      onRecord(record);
    });
    onProgress({ topic, records });
  };

  // Which inputs and revisions there are; read again at the end, for what has been handed over meanwhile.
  const inputs = new Set<string>();
  const revisions = new Set<string>();
  await read(topics.ledger(deployment), (record) => {
    const entry = parseLedger(record);
    if (!("topic" in entry)) return;
    inputs.add(entry.topic);
    revisions.add(entry.revision);
  });
  const committed = async () => {
    const found = new Map<string, Committed>();
    for (const revision of revisions) {
      for (const topic of inputs) {
        const positions = await admin.positions(groupOf(deployment, revision), topic);
        for (const [partition, { offset, metadata }] of positions) {
          const at = parseMark(metadata)?.at ?? 0;
          found.set(`${revision} ${placeKey({ topic, partition })}`, { offset: Number(offset), at });
        }
      }
    }
    return (revision: string, place: Place) => found.get(`${revision} ${placeKey(place)}`);
  };

  const before = await committed();
  // A commit reaches the readers of each topic in its own time.
  await sleep(MARKERS_MS);
  for (const topic of inputs) {
    await read(topic, ({ partition, offset, key }) =>
      checker.addInput({ topic, partition }, Number(offset), key),
    );
  }
  const sources: readonly (readonly [Source, string])[] = [
    ["live", topics.signals(deployment)],
    ["dead", topics.deadLetters(deployment)],
    ["shadow", topics.shadow(deployment)],
  ];
  for (const [source, topic] of sources) {
    await read(topic, ({ headers, timestamp, partition, offset }) => {
      const outcome = parseOutcome(headers);
      if (outcome !== undefined)
        checker.addOutcome(source, outcome, timestamp, `${topic}/${partition}@${offset}`);
    });
  }
  const after = await committed();
  await read(topics.ledger(deployment), (record) => checker.addLedger(parseLedger(record)));
  return checker.finish(before, after);
}
