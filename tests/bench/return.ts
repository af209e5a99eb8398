import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { readToEnd } from "#runtime/bus/read.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { Conductor } from "#runtime/handover/conductor.ts";
import { parseOutcome } from "#runtime/handover/outcome.ts";
import { groupOf } from "#runtime/handover/standing.ts";
import { claim, placesOf } from "#tests/support/handover.ts";
import { handoverProcess } from "#tests/support/nemesis.ts";
import { startBrokers } from "#tests/support/processes.ts";
import { waitFor } from "#tests/support/wait.ts";
import { machine, show, spread, table } from "./table.ts";

// How long it takes to go back to a revision without workers, by how much has come in since it had some: from the start of its
// process, as of a pod, until everything is its own. In a process each, one broker, all on this machine.
// AWAY=1000,1000000 says after how many messages; OWED_RECORDS=1000000000 has it work all of them off.

const TOPIC = "md.crypto.main";
const NAME = "d";
const PARTITIONS = 2;
const AWAY = (process.env["AWAY"] ?? "1000,1000000").split(",").map(Number);
/** Each of them goes away, and comes back once. */
const REVISIONS = ["b", "c", "e"];
const MESSAGE = Buffer.alloc(200, "x");
const AT_ONCE = 10_000;
const LONG_MS = 3_600_000;

interface Return {
  readonly seconds: number;
  /** Records that it computed without deciding on them, since it was back. */
  readonly shadows: number;
}

async function run(away: number): Promise<readonly Return[]> {
  const brokers = await startBrokers(1, { jvm: "server" });
  const bus = new KafkaBus({ brokers: brokers.addresses, clientId: "bench" });
  const admin = await bus.admin();
  await admin.ensureTopics([{ name: TOPIC, partitions: PARTITIONS }]);
  await claim(bus, NAME, "a", TOPIC, PARTITIONS);
  const env = { KAFKA_BROKERS: brokers.addresses.join(), DEPLOYMENT: NAME, TOPIC };
  const owed = process.env["OWED_RECORDS"];
  const start = (revision: string) => {
    const worker = handoverProcess("worker", {
      ...{ ...env, REVISION: revision },
      ...(owed === undefined ? {} : { OWED_RECORDS: owed }),
    });
    worker.start();
    return worker;
  };
  const producer = await bus.producer();
  let sent = 0;
  const send = async (count: number) => {
    for (const end = sent + count; sent < end; ) {
      const part = Array.from({ length: Math.min(AT_ONCE, end - sent) }, (_, n) => {
        const i = (sent + n) % 20;
        return producer.send({ topic: TOPIC, partition: i % PARTITIONS, key: `INS${i}`, value: MESSAGE });
      });
      await Promise.all(part);
      sent += part.length;
    }
  };
  const caughtUp = (revision: string) =>
    waitFor(
      revision,
      async () => {
        const committed = await admin.committed(groupOf(NAME, revision), TOPIC);
        const sum = [...committed.values()].reduce((total, offset) => total + Number(offset), 0);
        return committed.size === PARTITIONS && sum === sent;
      },
      LONG_MS,
    );
  const shadowsOf = async (revision: string) => {
    let count = 0;
    await readToEnd(bus, topics.shadow(NAME), ({ headers }) => {
      if (parseOutcome(headers)?.revision === revision) count += 1;
    });
    return count;
  };

  const owner = start("a");
  const others = REVISIONS.map((revision) => ({ revision, worker: start(revision) }));
  await Promise.all(["a", ...REVISIONS].map(caughtUp));
  await send(100);
  await Promise.all(["a", ...REVISIONS].map(caughtUp));
  for (const { worker } of others) await worker.end("SIGTERM");
  await send(away);
  await caughtUp("a");
  const conductor = new Conductor({ bus, deployment: NAME });
  await conductor.start();
  const places = await placesOf(bus, TOPIC);
  const returns: Return[] = [];
  for (const { revision } of others) {
    const before = await shadowsOf(revision);
    const began = performance.now();
    const worker = start(revision);
    await caughtUp(revision);
    await conductor.move(["*"], revision, places);
    const seconds = (performance.now() - began) / 1_000;
    returns.push({ seconds, shadows: (await shadowsOf(revision)) - before });
    await conductor.move(["*"], "a", places);
    await worker.end("SIGTERM");
  }
  await conductor.close();
  await owner.end("SIGTERM");
  await producer.close();
  await bus.close();
  await brokers.close();
  return returns;
}

console.log(machine());
const rows: string[][] = [];
const medians: number[] = [];
for (const away of AWAY) {
  const returns = await run(away);
  const seconds = spread(returns.map((one) => one.seconds));
  medians.push(seconds.median);
  rows.push([
    away.toLocaleString("en-US"),
    show(seconds, 1),
    returns.map(({ shadows }) => String(shadows)).join(", "),
    (seconds.median / (medians[0] ?? seconds.median)).toFixed(2),
  ]);
}
table(
  `Going back to a revision without workers, ${REVISIONS.length} of them: median [least–most]`,
  ["messages since", "seconds", "records worked off by each", "against the first"],
  rows,
);
process.exit(0);
