import { setTimeout as sleep } from "node:timers/promises";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { claim } from "#tests/support/handover.ts";
import { handoverProcess } from "#tests/support/nemesis.ts";
import { startBrokers } from "#tests/support/processes.ts";

const brokers = await startBrokers(1);
const TOPIC = "md.crypto.main";
const bus = new KafkaBus({ brokers: brokers.addresses, clientId: "t" });
const admin = await bus.admin();
await admin.ensureTopics([{ name: TOPIC, partitions: 4 }]);
await claim(bus, "d", "a", TOPIC);
const common = { KAFKA_BROKERS: brokers.addresses.join(), DEPLOYMENT: "d", TOPIC };
const a = handoverProcess("worker", { ...common, REVISION: "a" }),
  b = handoverProcess("worker", { ...common, REVISION: "b" });
a.start();
b.start();
const producer = await bus.producer();
let n = 0;
let on = true;
const feed = (async () => {
  const t0 = performance.now();
  while (on) {
    const due = (performance.now() - t0) / 2;
    while (n < due) {
      const k = `INS${n % 20}`;
      void producer.send({ topic: TOPIC, partition: n % 4, key: k, value: Buffer.from(String(n)) });
      n++;
    }
    await sleep(5);
  }
})();
await sleep(4000);
await a.end("SIGKILL");
const t = Date.now();
const c = handoverProcess("conductor", {
  ...common,
  INSTRUMENTS: "INS1,INS2",
  TO: "b",
  RELEASE_MS: "500",
  TAKE_MS: "60000",
});
c.start();
console.log(await c.ended(), Date.now() - t, "ms");
console.log(
  c.output
    .split("\n")
    .filter((l) => !l.includes("waiting"))
    .map((l) => {
      try {
        const j = JSON.parse(l);
        return `${j.time - t} ${JSON.stringify(j.event) ?? j.msg}`;
      } catch {
        return l;
      }
    })
    .join("\n"),
);
on = false;
await feed;
console.log(b.output.slice(-2000));
await b.end("SIGTERM");
await bus.close();
await brokers.close();
