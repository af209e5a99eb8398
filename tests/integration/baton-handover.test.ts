import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { readToEnd } from "#runtime/bus/read.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { groupOf } from "#runtime/handover/standing.ts";
import type { DecisionWorker } from "#runtime/handover/worker.ts";
import { connectRedis } from "#runtime/redis/index.ts";
import { batonProcess, baton as runBaton } from "#tests/support/baton.ts";
import { cli } from "#tests/support/cli.ts";
import { claim, echoWorker } from "#tests/support/handover.ts";
import { waitFor } from "#tests/support/wait.ts";

// What the commands about hand-overs print and how they end, with two revisions that decide on a stream.

const brokers = `127.0.0.1:${inject("cluster").ports.kafka}`;
const env = { KAFKA_BROKERS: brokers };
const bus = new KafkaBus({ brokers: [brokers], clientId: "test" });
const deployment = `cli-${randomUUID().slice(0, 8)}`;
const TOPIC = `md.crypto.${deployment}`;
const workers: DecisionWorker[] = [];
let stop: () => Promise<void>;

const baton = (...args: readonly string[]) => runBaton(env, ...args);
/** The line of JSON among what was printed. */
const json = (output: string) => JSON.parse(output.split("\n").find((line) => line.startsWith("{")) ?? "{}");

beforeAll(async () => {
  await (await bus.admin()).ensureTopics([{ name: TOPIC, partitions: 2 }]);
  await claim(bus, deployment, "v1", TOPIC);
  for (const revision of ["v1", "v2"]) {
    const worker = echoWorker({ bus, deployment, revision, topics: [TOPIC] });
    workers.push(worker);
    await worker.start();
  }
  const producer = await bus.producer();
  let running = true;
  const loop = (async () => {
    for (let i = 0; running; i++) {
      const key = ["BTCUSDT", "ETHUSDT", "SOLUSDT"][i % 3] as string;
      await producer.send({ topic: TOPIC, partition: i % 2, key, value: Buffer.from(String(i)) });
      await sleep(5);
    }
  })();
  stop = async () => {
    running = false;
    await loop;
    await producer.close();
  };
  const admin = await bus.admin();
  await waitFor("both revisions", async () => {
    const counts = await Promise.all(
      ["v1", "v2"].map(
        async (revision) => (await admin.committed(groupOf(deployment, revision), TOPIC)).size,
      ),
    );
    return counts.every((count) => count === 2);
  });
});
afterAll(async () => {
  await Promise.all(workers.map((worker) => worker.stop()));
  await bus.close();
});

describe("baton, about hand-overs", () => {
  it("shows who decides, moves instruments with the pause of each, and shows it while it happens", async () => {
    const watch = batonProcess(env, "assignments", deployment, "--watch", "--json");
    watch.start();
    await waitFor("the first state", () => watch.output.includes("assignments"), 20_000);
    expect(json(watch.output)).toMatchObject({
      deployment,
      halted: null,
      assignments: [
        { instrument: "*", partition: `${TOPIC}/0`, revision: "v1", epoch: 1 },
        { instrument: "*", partition: `${TOPIC}/1`, revision: "v1", epoch: 1 },
      ],
      open: [],
    });

    const moved = await baton("move", "BTCUSDT,ETHUSDT", "--to", "v2", "-d", deployment);
    expect(moved).toMatchObject({ code: 0 });
    expect(moved.output).toContain("request 2: asked for: BTCUSDT,ETHUSDT v1 → v2");
    expect(moved.output.match(/request 2: asked for/g)).toHaveLength(1);
    expect(moved.output).toContain("request 2: done");
    expect(moved.output).toMatch(/^2 +BTCUSDT,ETHUSDT +md\.crypto\.[\w-]+\/0 +v1 → v2 +\d+ +\d+ ms$/m);

    await waitFor("the change", () => watch.output.includes('"instrument":"ETHUSDT"'), 10_000);
    await watch.end("SIGTERM");

    const shown = await baton("assignments", deployment);
    expect(shown.output).toMatch(/^ETHUSDT +md\.crypto\.[\w-]+\/1 +v2 +2 +\d+/m);
    expect(shown.output).toMatch(/^all others +md\.crypto\.[\w-]+\/1 +v1 +1 +0/m);
  });

  it("moves everything, says so when there is nothing to do, and names what it cannot do", async () => {
    const all = await baton("move", "*", "--to", "v2", "-d", deployment, "--json");
    expect(json(all.output)).toMatchObject({ deployment, moved: true, epochs: [3] });
    expect(json(all.output).pauses).toHaveLength(2);
    const again = await baton("move", "*", "--to", "v2", "-d", deployment);
    expect(again).toMatchObject({ code: 0 });
    expect(again.output).toContain("v2 decides on them already");

    const refusals = await Promise.all([
      baton("move", "*", "--to", "v3", "-d", deployment),
      baton("move", "btc", "--to", "v2", "-d", deployment),
      baton("assignments", "nobody"),
      baton("move", "*", "--to", "v2", "-d", deployment, "--take-seconds", "soon"),
    ]);
    expect(refusals.map(({ code }) => code)).toEqual([1, 1, 1, 2]);
    expect(refusals[0]?.output).toContain("no such revision v3; known: v1, v2");
    expect(refusals[1]?.output).toMatch(/no such instrument btc; known: .*BTCUSDT/);
    expect(refusals[2]?.output).toMatch(/no such deployment nobody; known: /);
    expect(refusals[3]?.output).toContain("not a number of seconds");
  });

  it("says what there is where a name is wrong, and asks for nothing", async () => {
    const here = (...args: readonly string[]) => cli(env, ...args);
    const last = async () => json((await here("assignments", deployment, "--json")).output);
    const before = await last();
    // Two that were never moved by name: they are known by their records.
    const move = (...args: readonly string[]) => here("move", ...args, "-d", deployment);
    const near = await move("SOLUSD", "--to", "v1");
    expect(near).toMatchObject({ code: 1 });
    expect(near.output).toMatch(
      /no such instrument SOLUSD; known: .*; did you mean SOLUSDT\? \(--force moves/,
    );
    expect(await move("BTCUSDT,ETHUSD", "--to", "v1")).toMatchObject({ code: 1 });
    // What is there already is no excuse.
    expect(await move("BTCUSD", "--to", "v2")).toMatchObject({ code: 1 });
    expect(await last()).toEqual(before);

    const REDIS_URL = `redis://127.0.0.1:${inject("cluster").ports.redis}`;
    const halt = await runBaton({ ...env, REDIS_URL }, "halt", `${deployment}x`);
    expect(halt).toMatchObject({ code: 1 });
    expect(halt.output).toContain(`did you mean ${deployment}?`);
    const redis = connectRedis(REDIS_URL);
    await waitFor("Redis", () => redis.status === "ready");
    expect(await redis.exists(`baton:halt:${deployment}x`)).toBe(0);
    redis.disconnect();

    const letters = await here("dead-letters", "replay", `${deployment}-nobody`);
    expect(letters).toMatchObject({ code: 1 });
    expect(letters.output).toContain("no such service with dead letters");
  });

  it("hands back what the next owner does not take, says so once, and fails", async () => {
    await workers[0]?.stop();
    const deadlines = ["--take-seconds", "1", "--release-seconds", "2"];
    const back = await baton("move", "SOLUSDT", "--to", "v1", "-d", deployment, ...deadlines);
    expect(back).toMatchObject({ code: 1 });
    expect(back.output).toContain("request 5: not taken in time; asked back: SOLUSDT v1 → v2");
    expect(back.output).not.toContain("request 5: asked for");
    expect(back.output).toContain("v1 did not take over in time: everything went back");
  });

  it("verifies the history, and ends with 1 and the offset where a decision is there twice", async () => {
    await stop();
    const admin = await bus.admin();
    await waitFor("everything", async () => {
      const ends = await admin.offsets(TOPIC);
      const committed = await admin.committed(groupOf(deployment, "v2"), TOPIC);
      return [...ends].every(([partition, { latest }]) => committed.get(partition) === latest);
    });
    const good = await baton("history", "verify", deployment);
    expect(good).toMatchObject({ code: 0 });
    expect(good.output).toContain("everything holds");
    expect(good.output).not.toMatch(/warning/i);
    expect(good.output).toMatch(/hand-overs \d+, of which forced 2/);

    const decisions: Parameters<typeof again.send>[0][] = [];
    await readToEnd(bus, topics.signals(deployment), ({ topic, partition, value, headers }) => {
      decisions.push({ topic, partition, value, headers });
    });
    const again = await bus.producer();
    await again.send(decisions[7] as (typeof decisions)[0]);
    const bad = await baton("history", "verify", deployment, "--json");
    expect(bad).toMatchObject({ code: 1 });
    const place = decisions[7]?.headers?.["baton-input"]?.split("/") ?? [];
    expect(json(bad.output).violations).toContainEqual(
      expect.objectContaining({
        rule: "H1",
        topic: place[0],
        partition: Number(place[1]),
        offset: Number(place[2]),
      }),
    );
  });
});
