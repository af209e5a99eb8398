import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, inject, it } from "vitest";
import { DEPLOYMENTS, type Deployment } from "#operators/model-deployment/adapters/deployment.ts";
import { MODEL_DEPLOYMENTS } from "#operators/model-deployment/adapters/view.ts";
import { seededRandom } from "#runtime/market/random.ts";
import { Crash } from "#tests/support/crash.ts";
import { type End, Fire } from "#tests/support/fire.ts";
import { shortCanary } from "#tests/support/model-deployments.ts";
import type { Draft } from "#tests/support/operator-bench.ts";
import { each } from "#tests/support/points.ts";
import { waitFor } from "#tests/support/wait.ts";

// People and other controllers that change things while a release is on its way.

const cluster = inject("cluster");
const full = process.env["FAULTS"] === "full";
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const steps = (draft: Draft) => {
  draft["strategy"] = shortCanary("1s");
};

async function begun(): Promise<{ fire: Fire; crash: Crash; spec: (version: string) => Draft }> {
  const fire = await new Fire(cluster).open();
  const crash = new Crash();
  const spec = (version: string) => fire.bench.spec(version, steps);
  await fire.bench.startStream(40);
  await fire.operate(crash);
  expect(await fire.bench.create(spec("1.0.0"))).toBeUndefined();
  await fire.stable("1.0.0");
  return { fire, crash, spec };
}

describe("changes in mid-release", { timeout: 900_000 }, () => {
  it("there and back at any moment ends as if the last one had been applied alone", async () => {
    const random = seededRandom(seed);
    // To B and back to A; or to B, to C and back to B.
    const runs = Array.from({ length: full ? 64 : 12 }, (_, i) => ({
      versions: i % 2 === 0 ? ["2.0.0", "1.0.0"] : ["2.0.0", "3.0.0", "2.0.0"],
      waits: [random.uniform() * 5_000, random.uniform() * 3_000],
    }));
    console.log(`seed ${seed}: ${runs.length} runs`);
    const failures: string[] = [];
    await each(runs, 32, async ({ versions, waits }) => {
      const { fire, spec } = await begun();
      let end: End | undefined;
      try {
        for (const [i, version] of versions.entries()) {
          await fire.bench.update(spec(version));
          await sleep(waits[i] ?? 0);
        }
        const last = versions.at(-1) ?? "";
        await fire.stable(last);
        const running = ({ deployments }: End) => deployments.filter((one) => !one.endsWith(" 0"));
        end = await fire.end((seen) => running(seen).length === 1);
        expect(end).toMatchObject({ phase: "Healthy", stable: last, owners: [last] });
        expect(end.condemned).toBeUndefined();
        expect(running(end)).toEqual([`${last} 1`]);
        await fire.bench.verify();
      } catch (error) {
        failures.push(
          `${versions.join(", ")} after ${waits.map(Math.round).join(", ")} ms: ${String(error)}; it was ${JSON.stringify(end)}`,
        );
      } finally {
        await fire.close();
      }
    });
    expect(failures).toEqual([]);
  });

  it("others who write to its objects 20 times a second: it goes on, and does not write each time", async () => {
    const { fire, crash, spec } = await begun();
    const { api, namespace, name } = fire.bench;
    let others = 0;
    const note = (at: string) => ({ metadata: { annotations: { "example.com/seen": at } } });
    const write = async () => {
      const at = String(++others);
      const deployments = await api.listAll<Deployment>(DEPLOYMENTS, { namespace });
      await api.merge(MODEL_DEPLOYMENTS, namespace, name, note(at));
      for (const { metadata } of deployments)
        await api.merge(DEPLOYMENTS, namespace, metadata.name, note(at));
    };
    const open = new Set<Promise<void>>();
    const writer = setInterval(() => {
      // A server that is behind gets no more than it can take.
      if (open.size >= 4) return;
      const one = write().catch(() => {});
      open.add(one);
      void one.then(() => open.delete(one));
    }, 50);
    const before = crash.writes.length;
    await fire.bench.update(spec("2.0.0"));
    await fire.stable("2.0.0");
    await sleep(5_000);
    // A slow machine takes longer for as many.
    await waitFor("the writes of others", () => others > 60, 60_000);
    const written = crash.writes.length - before;
    clearInterval(writer);
    // As many as without them, which are some 25.
    expect(written).toBeLessThan(40);
    await fire.bench.verify();
    await fire.close();
  });

  it("others who set its replicas 20 times a second: it goes on, with no more writes than they", async () => {
    const { fire, crash, spec } = await begun();
    const { api, namespace } = fire.bench;
    let writing = true;
    let others = 0;
    const writer = (async () => {
      for (; writing; others++) {
        for (const { metadata } of await api.listAll<Deployment>(DEPLOYMENTS, { namespace }))
          await api.merge(DEPLOYMENTS, namespace, metadata.name, { spec: { replicas: 2 } });
        await sleep(40);
      }
    })();
    const before = crash.writes.length;
    await fire.bench.update(spec("2.0.0"));
    await sleep(8_000);
    writing = false;
    await writer;
    // Two Deployments, each set back once for each time.
    expect(crash.writes.length - before).toBeLessThan(others * 2 + 40);
    await fire.stable("2.0.0");
    await waitFor("its replicas to be its own again", async () => {
      const { deployments } = await fire.end();
      return deployments.filter((one) => !one.endsWith(" 0")).join() === "2.0.0 1";
    });
    await fire.bench.verify();
    await fire.close();
  });
});
