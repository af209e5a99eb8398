import { setTimeout as sleep } from "node:timers/promises";
import type { Admin, Bus, InRecord } from "#runtime/bus/port.ts";
import { readToEnd } from "#runtime/bus/read.ts";
import type { Ledger } from "#runtime/contracts/ledger.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { HandoverError } from "../errors.ts";
import { parseLedger } from "../ledger.ts";
import { parseOutcome } from "../outcome.ts";
import { parseMark } from "../repair.ts";
import { type Place, placeKey } from "../rules.ts";
import { groupOf } from "../standing.ts";
import { type Committed, HistoryChecker, type Source, type Verdict } from "./verify.ts";

/** A dead process's transaction is ended by the broker within 15 s, looked for every 10 s. */
const UNDECIDED_MS = 60_000;
const POLL_MS = 50;

export interface HistoryProgress {
  readonly topic: string;
  readonly records: number;
}

/**
 * Reads everything that is kept of a deployment's topics and checks it. The deployment may be running: what is
 * committed or handed over while this reads is counted as pending. Rejects with NO_LEDGER, and with UNDECIDED where a
 * transaction stays open.
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

  const inputs = new Set<string>();
  const revisions = new Set<string>();
  const readLedger = async (onEntry: (entry: Ledger) => void) => {
    await decided(admin, topics.ledger(deployment));
    await read(topics.ledger(deployment), (record) => {
      const entry = parseLedger(record);
      onEntry(entry);
      if (!("topic" in entry)) return;
      inputs.add(entry.topic);
      revisions.add(entry.revision);
    });
  };
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

  // Read again at the end, for what is handed over and what begins meanwhile.
  await readLedger((entry) => checker.addKnown(entry));
  const before = await committed();
  const sources: readonly (readonly [Source, string])[] = [
    ["live", topics.signals(deployment)],
    ["dead", topics.deadLetters(deployment)],
    ["shadow", topics.shadow(deployment)],
  ];
  for (const [, topic] of sources) if (existing.has(topic)) await decided(admin, topic);
  for (const topic of inputs) {
    await read(topic, ({ partition, offset, key }) =>
      checker.addInput({ topic, partition }, Number(offset), key),
    );
  }
  for (const [source, topic] of sources) {
    await read(topic, ({ headers, timestamp, partition, offset }) => {
      const outcome = parseOutcome(headers);
      if (outcome !== undefined)
        checker.addOutcome(source, outcome, timestamp, `${topic}/${partition}@${offset}`);
    });
  }
  await readLedger((entry) => checker.addLedger(entry));
  return checker.finish(before, await committed());
}

/**
 * Resolves when all that is in a topic now can be read, where it was committed. A commit reaches the readers of each topic in
 * its own time, and not before every transaction that was begun there earlier has ended: that of a dead worker too.
 */
async function decided(admin: Admin, topic: string): Promise<void> {
  const ends = await admin.ends(topic);
  const deadline = Date.now() + UNDECIDED_MS;
  for (;;) {
    const offsets = await admin.offsets(topic);
    const [behind] = [...ends].filter(([partition, end]) => (offsets.get(partition)?.latest ?? 0n) < end);
    if (behind === undefined) return;
    if (Date.now() > deadline) {
      const [partition] = behind;
      throw new HandoverError("UNDECIDED", `${topic}/${partition} from ${offsets.get(partition)?.latest}`);
    }
    await sleep(POLL_MS);
  }
}
