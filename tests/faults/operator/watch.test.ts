import { expect, inject, it } from "vitest";
import { seededRandom } from "#runtime/market/random.ts";
import { type End, type Fire, play, SCENARIOS } from "#tests/support/fire.ts";
import { FlakyApi, WATCH_FAULTS } from "#tests/support/flaky.ts";
import { each, some } from "#tests/support/points.ts";

// Watches that fail at any event of a canary: it ends as if they had not. FAULTS=full: each fault at each event.

const AT_ONCE = 32;
const SHORT = 24;
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);

it("argo-rollouts #3316, copies that fall behind do not stay so: watches that fail at any event of a canary change nothing", {
  timeout: 1_800_000,
}, async () => {
  const cluster = inject("cluster");
  const [canary] = SCENARIOS;
  if (canary === undefined) throw new Error("no scenario");
  /** A canary with watches that fail as told. */
  const run = async (at?: ConstructorParameters<typeof FlakyApi>[1], wanted?: End) => {
    let api: FlakyApi | undefined;
    const options = (fire: Fire) => {
      api = new FlakyApi(fire.bench.pods.config, at);
      return { api };
    };
    const { end } = await play(cluster, canary, { options, ...(wanted === undefined ? {} : { wanted }) });
    return { end, events: api?.events ?? 0 };
  };
  const without = await run();
  const points = Array.from({ length: without.events }, (_, i) =>
    WATCH_FAULTS.map((fault) => ({ event: i + 1, fault })),
  ).flat();
  const chosen = process.env["FAULTS"] === "full" ? points : some(points, SHORT, seededRandom(seed));
  console.log(`seed ${seed}: ${chosen.length} of ${points.length} faults`);
  const failures: string[] = [];
  await each(chosen, AT_ONCE, async (point, done) => {
    try {
      await run(point, without.end);
    } catch (error) {
      failures.push(`${point.fault} at event ${point.event}: ${(error as Error).message}`);
      console.log(failures.at(-1));
    }
    if (done % 50 === 0) console.log(`${done} of ${chosen.length}, ${failures.length} failed`);
  });
  expect(failures).toEqual([]);
});
