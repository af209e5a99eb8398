import { expect, inject, it } from "vitest";
import { seededRandom } from "#runtime/market/random.ts";
import { Crash, type CrashPoint } from "#tests/support/crash.ts";
import { type Outcome, play, SCENARIOS, type Scenario } from "#tests/support/fire.ts";
import { each, some } from "#tests/support/points.ts";

// The operator is killed before and after each of its writes, to the API server and to the ledger; another one takes over.
// It all ends as if nothing had happened: FAULTS=full every point, otherwise some of them, by a seed;
// SCENARIO=… only those with such a name.

const AT_ONCE = 24;
const SHORT = AT_ONCE;
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);

interface Point extends CrashPoint {
  readonly scenario: Scenario;
  readonly what: string;
  readonly without: Outcome;
}

it("killed at any of its writes, it all ends as if nothing had happened", {
  timeout: 1_800_000,
}, async () => {
  const cluster = inject("cluster");
  const points: Point[] = [];
  const wanted = SCENARIOS.filter(({ name }) => name.includes(process.env["SCENARIO"] ?? ""));
  await each(wanted, wanted.length, async (scenario) => {
    const without = await play(cluster, scenario);
    for (const [i, what] of without.writes.entries())
      for (const when of ["before", "after"] as const)
        points.push({ scenario, write: i + 1, when, what, without });
  });
  const chosen = process.env["FAULTS"] === "full" ? points : some(points, SHORT, seededRandom(seed));
  console.log(`seed ${seed}: ${chosen.length} of ${points.length} points`);
  const failures: string[] = [];
  let met = 0;
  await each(chosen, AT_ONCE, async (point, done) => {
    const { scenario, write, when, what, without } = point;
    const name = `${scenario.name}, ${when} write ${write} (${what})`;
    try {
      // Beside others a release has a write or two less now and then: then it is killed at an earlier one.
      for (let at = write, died = false; !died && at > 0; at -= 2) {
        const crash = new Crash({ write: at, when });
        const played = await play(cluster, scenario, { crash, wanted: without.end });
        died = played.died;
        if (died) met += 1;
      }
    } catch (error) {
      failures.push(`${name}: ${(error as Error).message}`);
      console.log(failures.at(-1));
    }
    if (done % 50 === 0) console.log(`${done} of ${chosen.length}, ${failures.length} failed`);
  });
  console.log(`${met} of ${chosen.length} were killed there; the others had fewer writes`);
  expect(failures).toEqual([]);
  expect(met).toBeGreaterThan(chosen.length * 0.9);
});
