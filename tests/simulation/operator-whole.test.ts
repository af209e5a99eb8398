import fc from "fast-check";
import { afterEach, beforeEach, expect, it } from "vitest";
import { VERBS, type Verb } from "#operators/model-deployment/core/observed.ts";
import { shortCanary } from "#tests/support/model-deployments.ts";
import type { Draft } from "#tests/support/operator-bench.ts";
import { Simulated, simulatedSpec, type WireFault } from "#tests/support/simulated.ts";
import { pass, standStill } from "#tests/support/virtual-time.ts";

// The whole operator on an API server and a bus in memory, in virtual time: releases under whatever may happen, with
// operators that die at any write, writes that are lost, answered too late or done twice, copies that fall behind, and
// others who write as well. RUNS=… sets the number of stories, SEED=… repeats one.

type Op =
  | { readonly op: "wait"; readonly ms: number }
  | { readonly op: "version"; readonly version: number }
  | { readonly op: "verb"; readonly verb: Verb }
  | { readonly op: "measure"; readonly value: number | undefined }
  | { readonly op: "fault"; readonly fault: WireFault }
  | { readonly op: "stale"; readonly ms: number }
  | { readonly op: "meddle"; readonly replicas: number | undefined }
  | { readonly op: "pods"; readonly which: "stable" | "candidate"; readonly isUp: boolean };

const FAULTS = ["crash-before", "crash-after", "lost-before", "lost-after", "twice", "overtaken"] as const;
const op: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ op: fc.constant("wait" as const), ms: fc.integer({ min: 10, max: 6_000 }) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ op: fc.constant("fault" as const), fault: fc.constantFrom(...FAULTS) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ op: fc.constant("version" as const), version: fc.integer({ min: 1, max: 4 }) }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("verb" as const), verb: fc.constantFrom(...VERBS) }) },
  {
    weight: 4,
    arbitrary: fc.record({ op: fc.constant("measure" as const), value: fc.constantFrom(0, 1, 1, undefined) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant("stale" as const), ms: fc.integer({ min: 100, max: 8_000 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant("meddle" as const), replicas: fc.constantFrom(0, 3, undefined) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant("pods" as const),
      which: fc.constantFrom("stable" as const, "candidate" as const),
      isUp: fc.boolean(),
    }),
  },
);

const strategies: readonly ((draft: Draft) => void)[] = [
  (draft) => {
    draft["strategy"] = shortCanary("2s");
    draft["rollbackWindow"] = { revisions: 1 };
  },
  (draft) => {
    draft["strategy"] = { blueGreen: { autoPromotionSeconds: 2, scaleDownDelaySeconds: 5 } };
  },
];

// Before time stands still.
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
let end: () => void;
beforeEach(() => {
  end = standStill("2026-01-01T00:00:00Z");
});
afterEach(() => end());

async function happen(sim: Simulated, step: Op, spec: (version: number) => Draft): Promise<void> {
  const { status } = sim;
  switch (step.op) {
    case "wait":
      return pass(step.ms);
    case "version":
      return sim.update(spec(step.version));
    case "verb": {
      const last = step.verb === "retry" ? status.condemned?.at(-1) : status.stable?.revision;
      return sim.tell(step.verb, status.candidate?.revision ?? last ?? "r-none");
    }
    case "measure":
      sim.value = step.value;
      return undefined;
    case "fault":
      sim.fail(step.fault);
      return undefined;
    case "stale":
      sim.stale(step.ms);
      return undefined;
    case "meddle":
      return sim.meddle(step.replicas);
    case "pods":
      return sim.pods.set(status[step.which]?.revision ?? "", step.isUp);
  }
}

/** What a story has come to that should not be. */
async function play(change: (draft: Draft) => void, ops: readonly Op[]): Promise<readonly string[]> {
  const spec = (version: number) => simulatedSpec(version, change);
  const sim = new Simulated();
  /** Aborts that were obeyed. */
  const aborted = new Map<string, string>();
  const note = () => {
    const { lastVerb } = sim.status;
    // "accepted: rollback already in progress" is another's doing.
    if (lastVerb?.verb !== "abort" || !lastVerb.result.startsWith("accepted: everything goes back")) return;
    const { decision } = sim.status;
    // It may be over already, and another one under way.
    if (decision?.kind === "Abort" && !aborted.has(lastVerb.at)) aborted.set(lastVerb.at, decision.revision);
  };
  try {
    await sim.begin(spec(1));
    await sim.update(spec(2));
    for (const step of ops) {
      await happen(sim, step, spec);
      await pass(100);
      note();
    }
    // All is well again, and nobody asks for anything.
    sim.value = 0;
    await sim.pods.allUp();
    for (let second = 0; second < 240; second++) {
      await pass(1_000);
      note();
      const { candidate, decision, phase, pausedAt } = sim.status;
      // Somebody had asked for it, and the operator may have heard late.
      if (pausedAt !== undefined && second % 10 === 9) await sim.tell("resume", candidate?.revision ?? "");
      const owners = [...new Set(sim.owners().values())];
      const isOver = !candidate && !decision && phase !== "Progressing" && owners.length === 1;
      if (second > 20 && isOver) break;
    }
    const { candidate, decision, phase, stable, history = [] } = sim.status;
    if (candidate !== undefined) sim.broken.push(`it does not end: ${sim.status.message}`);
    if (decision !== undefined) sim.broken.push(`what was decided is not done: ${sim.status.message}`);
    if (phase !== "Healthy" && phase !== "Degraded")
      sim.broken.push(`it ends ${phase}: ${sim.status.message}`);
    const owners = [...new Set(sim.owners().values())];
    if (owners.length !== 1 || owners[0] !== stable?.revision) sim.broken.push(`${owners} own it`);
    for (const [at, revision] of aborted) {
      const ended = history.findLast((one) => one.revision === revision && one.endedAt >= at);
      if (ended !== undefined && ended.completionStatus !== "Aborted")
        sim.broken.push(`${revision} was aborted and ${ended.completionStatus}`);
    }
    await sim.verify();
    // A settled world plans nothing and writes nothing.
    await pass(20_000, 100);
    const { writes } = sim;
    await pass(600_000, 1_000);
    if (sim.writes !== writes)
      sim.broken.push(`${sim.writes - writes} writes in ten minutes of nothing to do`);
    return sim.broken;
  } finally {
    await sim.end();
  }
}

it("whatever happens to it, the operator keeps its promises", async () => {
  const runs = Number(process.env["RUNS"] ?? (process.env["FAULTS"] === "full" ? 600 : 40));
  console.log(`seed ${seed}: ${runs} stories`);
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...strategies),
      fc.array(op, { minLength: 4, maxLength: 24 }),
      async (change, ops) => {
        expect(await play(change, ops)).toEqual([]);
      },
    ),
    { numRuns: runs, seed },
  );
}, 1_800_000);

it("flagger #1588 (f): a promotion that hangs leaves nothing when it is deleted", async () => {
  const sim = new Simulated();
  try {
    await sim.begin(simulatedSpec(1, (draft) => (draft["strategy"] = shortCanary("600s"))));
    await sim.update(simulatedSpec(2, (draft) => (draft["strategy"] = shortCanary("600s"))));
    await pass(6_000);
    const revision = sim.status.candidate?.revision ?? "";
    expect([...sim.owners().values()]).toContain(revision);
    await sim.pods.set(revision, false);
    await sim.tell("promote-full", revision);
    await pass(2_000);
    expect(sim.status.decision).toMatchObject({ kind: "Promote", revision });
    await sim.delete();
    await pass(5_000);
    expect(sim.object).toBeUndefined();
    expect(sim.deployments()).toEqual([]);
    const { writes } = sim;
    await pass(120_000, 1_000);
    expect(sim.writes).toBe(writes);
    expect(sim.broken).toEqual([]);
  } finally {
    await sim.end();
  }
});

it("what others do just before one of its writes is seen, though its answer comes before the watch tells of it", async () => {
  const sim = new Simulated();
  try {
    await sim.begin(simulatedSpec(1, () => {}));
    // Nothing else tells of the Deployment: whoever makes its pods is away.
    await sim.pods.stop();
    sim.fail("overtaken");
    // It writes to the Deployment, and nothing of its replicas.
    await sim.tell("restart", sim.status.stable?.revision ?? "");
    await pass(10_000);
    expect(sim.deployments().map(({ spec }) => spec.replicas)).toEqual([2]);
    expect(sim.status.restart).toBeDefined();
    expect(sim.broken).toEqual([]);
  } finally {
    await sim.end();
  }
});
