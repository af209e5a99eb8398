import { beforeAll, describe, expect, it } from "vitest";
import { MemoryBroker } from "#runtime/bus/memory/broker.ts";
import { MemoryBus } from "#runtime/bus/memory/index.ts";
import type { Ledger } from "#runtime/contracts/ledger.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { claim, echoWorker, memoryHaltCache, placesOf } from "#tests/support/handover.ts";
import { waitFor } from "#tests/support/wait.ts";
import type { Deadlines } from "../conduct.ts";
import { Conductor } from "../conductor.ts";
import { setHalt } from "../halt.ts";
import { ledgerRecord, parseLedger } from "../ledger.ts";
import { parseOutcome, type ReadOutcome } from "../outcome.ts";
import { type Place, partitionState, placeKey } from "../rules.ts";
import { HistoryChecker, type Rule, type Source, type Verdict } from "./verify.ts";

const DEPLOYMENT = "d";
const TOPIC = "md.crypto.main";
const INSTRUMENTS = ["BTCUSDT", "ETHUSDT", "SOLUSDT"];
const PATIENT: Deadlines = { releaseMs: 60_000, takeMs: 60_000 };

interface History {
  inputs: { place: Place; offset: number; key: string }[];
  live: ReadOutcome[];
  dead: ReadOutcome[];
  shadow: ReadOutcome[];
  ledger: Ledger[];
  committed: Map<string, number>;
}

/**
 * A real history: hand-overs there and back, one that is handed back, rejected records, a halt, and a late revision that is
 * away for a while and takes over when it is back.
 */
async function makeHistory(): Promise<History> {
  const broker = new MemoryBroker();
  const bus = new MemoryBus(broker);
  await (await bus.admin()).ensureTopics([{ name: TOPIC, partitions: 2 }]);
  const places = await placesOf(bus, TOPIC);
  await claim(bus, DEPLOYMENT, "a", TOPIC);
  const cache = memoryHaltCache();
  const start = (revision: string) => {
    const options = { bus: new MemoryBus(broker), deployment: DEPLOYMENT, revision, topics: [TOPIC] };
    const worker = echoWorker({ ...options, haltCache: cache, owedRecords: 10 });
    return worker.start().then(() => worker);
  };
  const workers = [await start("a"), await start("b")];
  const conduct = async (deadlines: Deadlines) => {
    const conductor = new Conductor({ bus, deployment: DEPLOYMENT, deadlines });
    await conductor.start();
    return conductor;
  };
  let boss = await conduct(PATIENT);
  const producer = await bus.producer();
  let sent = 0;
  const committedBy = async (revision: string) => {
    const offsets = await (await bus.admin()).committed(`${DEPLOYMENT}.${revision}`, TOPIC);
    return [...offsets.values()].reduce((sum, offset) => sum + Number(offset), 0);
  };
  const send = async (count: number) => {
    for (let i = 0; i < count; i++, sent++) {
      const key = INSTRUMENTS[sent % INSTRUMENTS.length] as string;
      const value = Buffer.from(sent % 7 === 3 ? "poison" : "x");
      await producer.send({ topic: TOPIC, partition: sent % 2, key, value });
    }
    await waitFor("the commits", async () => {
      return (await committedBy("a")) === sent && (await committedBy("b")) === sent;
    });
  };
  await send(60);
  await boss.move(["BTCUSDT"], "b", places);
  await send(60);
  await boss.move(["*"], "b", places);
  await send(60);
  await boss.move(["BTCUSDT"], "a", places);
  await send(60);
  // Nobody is to have it, and is made to give it back.
  const there = { epoch: boss.state.epoch + 1, instruments: ["ETHUSDT"], from: "b", to: "nobody" };
  await boss.request({ ...there, partitions: places });
  const cutOf = (place: Place) => partitionState(boss.state, place).moves[0]?.cut;
  await waitFor("b to let go", () => places.every((place) => cutOf(place) !== undefined));
  await boss.close();
  boss = await conduct({ ...PATIENT, releaseMs: 0 });
  const back = { ...there, epoch: there.epoch + 1, from: "nobody", to: "b" };
  await boss.request({ ...back, partitions: places });
  await boss.settle();
  await boss.close();
  boss = await conduct(PATIENT);
  await send(60);
  await setHalt(bus, DEPLOYMENT, cache, { halted: true, reason: "test", known: undefined });
  await send(30);
  await setHalt(bus, DEPLOYMENT, cache, { halted: false, reason: "test", known: await cache.get() });
  const late = await start("c");
  const isThere = () => waitFor("c", async () => (await committedBy("c")) === sent);
  await send(60);
  await isThere();
  await late.stop();
  await send(60);
  workers.push(await start("c"));
  await isThere();
  await boss.move(["SOLUSDT"], "c", places);
  await send(60);
  await isThere();
  const committed = new Map<string, number>();
  for (const revision of ["a", "b", "c"]) {
    const offsets = await (await bus.admin()).committed(`${DEPLOYMENT}.${revision}`, TOPIC);
    for (const [partition, offset] of offsets)
      committed.set(`${revision} ${TOPIC}/${partition}`, Number(offset));
  }
  await Promise.all(workers.map((worker) => worker.stop()));
  await boss.close();
  await bus.close();
  const records = (topic: string) => broker.partitions(topic).flat();
  const outcomes = (topic: string) => records(topic).flatMap(({ headers }) => parseOutcome(headers) ?? []);
  return {
    inputs: records(TOPIC).map(({ partition, offset, key = "" }) => ({
      place: { topic: TOPIC, partition },
      offset: Number(offset),
      key,
    })),
    live: outcomes(topics.signals(DEPLOYMENT)),
    dead: outcomes(topics.deadLetters(DEPLOYMENT)),
    shadow: outcomes(topics.shadow(DEPLOYMENT)),
    ledger: records(topics.ledger(DEPLOYMENT)).map(parseLedger),
    committed,
  };
}

/** When all outcomes were written, and how long before that the positions were committed. */
const WRITTEN = 1_000_000;

function verify(history: History, age = 31_000): Verdict {
  const checker = new HistoryChecker();
  for (const record of history.ledger) {
    checker.addKnown(record);
    checker.addLedger(record);
  }
  for (const { place, offset, key } of history.inputs) checker.addInput(place, offset, key);
  for (const source of ["live", "dead", "shadow"] satisfies Source[]) {
    for (const outcome of history[source]) checker.addOutcome(source, outcome, WRITTEN);
  }
  const committed = (at: number) => (revision: string, place: Place) => {
    const offset = history.committed.get(`${revision} ${placeKey(place)}`);
    return offset === undefined ? undefined : { offset, at };
  };
  return checker.finish(committed(WRITTEN - age), committed(WRITTEN - age));
}

let good: History;
beforeAll(async () => {
  good = await makeHistory();
}, 60_000);

const copy = (): History => structuredClone(good);
const rulesOf = (verdict: Verdict) =>
  Object.entries(verdict.broken).flatMap(([rule, count]) => (count > 0 ? [rule] : []));

const index = (
  list: readonly ReadOutcome[],
  from: number,
  check: (outcome: ReadOutcome) => boolean = () => true,
) => {
  const found = list.findIndex((outcome, i) => i >= from && check(outcome));
  if (found < 0) throw new Error("the history has no such record");
  return found;
};
const change = (list: ReadOutcome[], at: number, patch: Partial<ReadOutcome>) => {
  list[at] = { ...(list[at] as ReadOutcome), ...patch };
};
const ledgerIndex = (history: History, type: Ledger["type"], nth: number) => {
  const all = history.ledger.flatMap((record, i) => (record.type === type ? [i] : []));
  return all.at(nth) as number;
};
/** Two live records of one instrument and partition that follow each other, of which the first is at or after `from`. */
const neighbours = (list: readonly ReadOutcome[], from: number): [number, number] => {
  const first = list[from] as ReadOutcome;
  return [
    from,
    index(list, from + 1, (o) => o.instrument === first.instrument && o.partition === first.partition),
  ];
};
const swap = (list: ReadOutcome[], [a, b]: readonly [number, number]) => {
  [list[a], list[b]] = [list[b] as ReadOutcome, list[a] as ReadOutcome];
};
/** Changes where revisions say that they began anew, and what they left out. */
const anew = (
  history: History,
  change: (was: { readonly left: number; readonly offset: number }) => { left?: number; offset?: number },
) => {
  history.ledger = history.ledger.map((record) => {
    if (record.type !== "started" || record.left === undefined) return record;
    const was = { left: Number(record.left), offset: Number(record.offset) };
    const { left, offset } = { ...was, ...change(was) };
    return { ...record, left: String(left), offset: String(offset) };
  });
};
const byA = (outcome: ReadOutcome) => outcome.revision === "a";
const byB = (outcome: ReadOutcome) => outcome.revision === "b";

/** Ways to break a history, each with the rule that it breaks. */
const BREAKS: readonly (readonly [string, Rule, (history: History) => void])[] = [
  ["a live decision is lost", "H1", (h) => void h.live.splice(20, 1)],
  ["the first live decision is lost", "H1", (h) => void h.live.splice(0, 1)],
  ["a live decision of the next owner is lost", "H1", (h) => void h.live.splice(index(h.live, 0, byB), 1)],
  ["a dead letter is lost", "H1", (h) => void h.dead.splice(3, 1)],
  [
    "a withheld record is lost",
    "H1",
    (h) =>
      void h.shadow.splice(
        index(h.shadow, 0, ({ action }) => action === "withheld"),
        1,
      ),
  ],
  ["a live decision is there twice", "H1", (h) => void h.live.splice(30, 0, h.live[30] as ReadOutcome)],
  ["a decision is there twice, far apart", "H1", (h) => void h.live.push(h.live[5] as ReadOutcome)],
  [
    "a record has both a decision and a dead letter",
    "H1",
    (h) => void h.dead.push({ ...(h.live.at(-1) as ReadOutcome), kind: "rejected" }),
  ],
  [
    "a record is decided by one revision and withheld by another",
    "H1",
    (h) => void h.shadow.push({ ...(h.live.at(-1) as ReadOutcome), revision: "b", action: "withheld" }),
  ],
  [
    "both revisions decide the same record live",
    "H1",
    (h) => void h.live.push({ ...(h.live.at(-1) as ReadOutcome), revision: "b" }),
  ],
  ["an outcome has no input record", "H1", (h) => void h.inputs.splice(40, 1)],
  ["a record is decided by the wrong revision", "H2", (h) => change(h.live, 10, { revision: "b" })],
  ["a record is decided by a revision that never owned", "H2", (h) => change(h.live, 10, { revision: "c" })],
  ["a decision bears another epoch", "H2", (h) => change(h.live, index(h.live, 0, byB), { epoch: 7 })],
  ["a dead letter is of the wrong revision", "H2", (h) => change(h.dead, 1, { revision: "b" })],
  [
    "the old owner decides one record behind the cut",
    "H2",
    (h) => change(h.live, index(h.live, 0, byB), { revision: "a", epoch: 1 }),
  ],
  [
    "the take-over is missing in the ledger",
    "H2",
    (h) => void h.ledger.splice(ledgerIndex(h, "taken", 2), 1),
  ],
  [
    "the request is missing in the ledger",
    "H2",
    (h) => void h.ledger.splice(ledgerIndex(h, "request", 1), 1),
  ],
  [
    "the cut in the ledger is another one",
    "H2",
    (h) => {
      const at = ledgerIndex(h, "released", 0);
      const released = h.ledger[at] as Ledger & { type: "released" };
      h.ledger[at] = { ...released, cut: String(Number(released.cut) - 3) };
    },
  ],
  [
    "the revision changes without a cut",
    "H3",
    (h) => {
      const from = index(h.live, 0, byB) + 1;
      const at = index(h.live, from, ({ instrument }) => instrument === h.live[from]?.instrument);
      change(h.live, at, { revision: "a", epoch: 1 });
    },
  ],
  [
    "the revision changes and changes back without cuts",
    "H3",
    (h) => change(h.live, index(h.live, 0, byA) + 4, { revision: "c" }),
  ],
  [
    "an epoch falls in the order of the output",
    "H4",
    (h) => {
      const last = h.live.length - 1;
      change(h.live, last, { epoch: 1 });
    },
  ],
  ["an epoch rises and falls again", "H4", (h) => change(h.live, 8, { epoch: 9 })],
  ["two decisions of an instrument are swapped", "H5", (h) => swap(h.live, neighbours(h.live, 12))],
  ["two dead letters of an instrument are swapped", "H5", (h) => swap(h.dead, neighbours(h.dead, 0))],
  [
    "a decision comes long after its turn",
    "H5",
    (h) => {
      const [late] = h.live.splice(15, 1);
      h.live.push(late as ReadOutcome);
    },
  ],
  [
    "a record of a transaction that did not commit is read",
    "H6",
    (h) => {
      const offset = h.inputs.filter(({ place }) => place.partition === 0).length;
      h.inputs.push({ place: { topic: TOPIC, partition: 0 }, offset, key: "BTCUSDT" });
      h.shadow.push({ ...(h.shadow.at(-1) as ReadOutcome), partition: 0, offset: BigInt(offset) });
    },
  ],
  [
    "the committed offset is behind what was read",
    "H6",
    (h) => h.committed.set(`a ${TOPIC}/0`, (h.committed.get(`a ${TOPIC}/0`) ?? 0) - 1),
  ],
  [
    "the committed offset is ahead of the last outcome",
    "H7",
    (h) => h.committed.set(`b ${TOPIC}/1`, (h.committed.get(`b ${TOPIC}/1`) ?? 0) + 1),
  ],
  ["a revision computed records again", "H7", (h) => void h.shadow.push(h.shadow.find(byB) as ReadOutcome)],
  [
    "a revision went back and went on from there",
    "H7",
    (h) => swap(h.shadow, neighbours(h.shadow, index(h.shadow, 0, byB))),
  ],
  ["a revision has nothing for a record", "H8", (h) => void h.shadow.splice(index(h.shadow, 0, byB), 1)],
  [
    "a late revision has nothing for its first record",
    "H8",
    (h) =>
      void h.shadow.splice(
        index(h.shadow, 0, ({ revision }) => revision === "c"),
        1,
      ),
  ],
  [
    "a revision never said where it began",
    "H8",
    (h) => {
      h.ledger = h.ledger.filter((record) => record.type !== "started" || record.revision !== "c");
    },
  ],
  [
    "a revision that was away never said that it began anew",
    "H8",
    (h) => {
      h.ledger = h.ledger.filter((record) => record.type !== "started" || record.left === undefined);
    },
  ],
  ["a revision left out more than it says", "H8", (h) => anew(h, ({ left }) => ({ left: left + 3 }))],
  [
    "a revision began anew further on than it says",
    "H8",
    (h) => anew(h, ({ offset }) => ({ offset: offset - 3 })),
  ],
  ["a revision began anew beyond a cut", "H8", (h) => anew(h, ({ offset }) => ({ offset: offset + 1_000 }))],
  [
    "a revision left out what was its own",
    "H8",
    (h) => {
      const byC = index(h.live, 0, ({ revision }) => revision === "c");
      const [lost] = h.live.splice(byC, 1) as [ReadOutcome];
      anew(h, () => ({ offset: Number(lost.offset) + 1 }));
    },
  ],
  [
    "a revision left out what had been its own until somebody else took over",
    "H8",
    (h) => {
      // a has nothing any more from where b takes the rest over.
      const place = { topic: TOPIC, partition: 0 };
      const until = h.ledger.flatMap((record) =>
        record.type === "released" && record.revision === "a" && record.partition === 0
          ? Number(record.cut)
          : [],
      )[1] as number;
      const said = { left: String(until - 9), offset: String(until + 3) };
      h.ledger.push({ type: "started", at: 1, revision: "a", ...place, ...said });
      const lost = ({ revision, partition, offset }: ReadOutcome) =>
        revision === "a" && partition === 0 && Number(offset) >= until - 9;
      h.live.splice(index(h.live, 0, lost), 1);
    },
  ],
  [
    "a revision began beyond the cut that it took over at",
    "H8",
    (h) => {
      const at = h.ledger.findIndex((record) => record.type === "started" && record.revision === "b");
      h.ledger[at] = { ...(h.ledger[at] as Ledger & { type: "started" }), offset: "100" };
    },
  ],
];

describe("the history checker", () => {
  it("accepts a history in which all of it happened, and counts it", () => {
    const verdict = verify(good);
    expect(verdict.violations).toEqual([]);
    expect(verdict.ok).toBe(true);
    const { counts } = verdict;
    expect(counts.inputs).toBe(510);
    expect(counts.live + counts.rejected + counts.withheld + counts.pending).toBe(510);
    expect(counts).toMatchObject({ pending: 0, unowned: 0, withheld: 30, forced: 2 });
  });

  it("knows at least 25 ways to break one", () => {
    expect(BREAKS.length).toBeGreaterThanOrEqual(25);
    expect(new Set(BREAKS.map(([, rule]) => rule)).size).toBe(8);
  });

  it.each(BREAKS)("finds that %s (%s)", (_, rule, breakIt) => {
    const history = copy();
    breakIt(history);
    const verdict = verify(history);
    expect(verdict.ok).toBe(false);
    expect(rulesOf(verdict)).toContain(rule);
    expect(verdict.violations.find((violation) => violation.rule === rule)?.detail).not.toBe("");
  });

  it("asks for nothing before the last beginning where the ledger was compacted", () => {
    const history = copy();
    const last = new Map(history.ledger.map((record) => [ledgerRecord(DEPLOYMENT, record).key, record]));
    const kept = history.ledger.filter((record) => last.get(ledgerRecord(DEPLOYMENT, record).key) === record);
    const beginnings = kept.filter(({ type }) => type === "started").length;
    expect(beginnings).toBe(history.ledger.filter(({ type }) => type === "started").length - 2);
    history.ledger = kept;
    expect(verify(history).violations).toEqual([]);
  });

  it("lets positions lie behind the latest outcomes for a while", () => {
    const history = copy();
    for (const [place, offset] of history.committed) history.committed.set(place, offset - 3);
    expect(verify(history, 29_000).violations).toEqual([]);
    expect(rulesOf(verify(history))).toEqual(["H6"]);
  });

  it("counts no more decisions than messages, though more have come in since those were read", () => {
    const history = copy();
    history.inputs = history.inputs.slice(0, -20);
    const { inputs, live, rejected, withheld, pending } = verify(history).counts;
    expect(inputs).toBe(good.inputs.length - 20);
    expect(live + rejected + withheld + pending).toBe(inputs);
  });

  it("calls pending what the owner has not committed yet", () => {
    const history = copy();
    const end = history.inputs.filter(({ place }) => place.partition === 0).length;
    history.inputs.push({ place: { topic: TOPIC, partition: 0 }, offset: end, key: "BTCUSDT" });
    const verdict = verify(history);
    expect(verdict.ok).toBe(true);
    expect(verdict.counts.pending).toBe(1);
  });
});
