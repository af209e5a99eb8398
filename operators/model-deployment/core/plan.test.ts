import { describe, expect, it } from "vitest";
import { type Draft, specOf, World } from "#tests/support/deployment-world.ts";
import { analysisTemplateSpec } from "../api/analysis.ts";

// Each behaviour that model-deployment.md promises, on the core alone.

const OWNERS = (world: World) => Object.fromEntries(world.owners);
const errors = (change: Record<string, unknown> = {}) =>
  analysisTemplateSpec.parse({
    metrics: [
      {
        name: "errors",
        interval: "1s",
        threshold: { max: "0.01" },
        provider: { prometheus: { query: "x", samplesQuery: "n" } },
        ...change,
      },
    ],
  });

/** A world in which v1 is stable and v2 has just come. */
function releasing(change: Parameters<typeof specOf>[1] = () => {}): {
  world: World;
  v1: string;
  v2: string;
} {
  const world = new World(specOf("1.0.0", change)).begin();
  const v1 = world.revision();
  world.update(specOf("2.0.0", change));
  return { world, v1, v2: world.revision() };
}

const withAnalysis = (spec: Draft) => {
  spec["analysis"] = { templates: [{ name: "errors" }], startingStep: 0 };
};

describe("the first revision", () => {
  it("gets everything when it runs, and is stable then", () => {
    const world = new World(specOf("1.0.0"));
    world.pass();
    expect(world.pods.get(world.revision())).toMatchObject({ replicas: 2 });
    expect(world.status).toMatchObject({ phase: "Pending" });
    world.settle();
    expect(OWNERS(world)).toEqual({ "*": world.revision() });
    expect(world.status).toMatchObject({
      phase: "Healthy",
      stable: { version: "1.0.0", available: 2 },
      history: [{ completionStatus: "Promoted", reason: "FirstRevision" }],
    });
  });

  it("waits for pods, for coherence and for Kafka", () => {
    const world = new World(specOf("1.0.0"));
    world.incoherent.add(world.revision());
    world.settle();
    expect(world.owners.size).toBe(0);
    world.incoherent.clear();
    world.pods.clear();
    world.reachable = false;
    world.settle();
    expect(world.status.phase).toBe("Pending");
    expect(world.owners.size).toBe(0);
    world.reachable = true;
    world.settle();
    expect(world.status.phase).toBe("Healthy");
  });
});

describe("a canary", () => {
  it("gets instruments step by step, pauses, and is promoted; the old one ends", () => {
    const { world, v1, v2 } = releasing();
    world.settle();
    expect(OWNERS(world)).toEqual({ "*": v1, BTCUSDT: v2 });
    expect(world.status).toMatchObject({ phase: "Paused", currentStepIndex: 1, weight: 100 });
    world.wait(9);
    expect(world.status.currentStepIndex).toBe(1);
    world.wait(1);
    expect(world.owners.get("UNIUSDT")).toBe(v2);
    expect(new Set(world.owners.values())).toEqual(new Set([v2]));
    expect(world.status).toMatchObject({
      phase: "Healthy",
      stable: { revision: v2, version: "2.0.0" },
      history: [{ completionStatus: "Promoted", revision: v2 }, { revision: v1 }],
    });
    expect(world.status.candidate).toBeUndefined();
    expect(world.pods.get(v1)?.replicas).toBe(0);
  });

  it("gets nothing before every replica is available and reports what it should", () => {
    const { world, v2 } = releasing();
    world.incoherent.add(v2);
    world.settle();
    expect([...world.owners.values()]).not.toContain(v2);
    expect(world.status.message).toContain("not every replica reports the model");
  });

  it("is taken back at once when a replica that decides has loaded another model", () => {
    const { world, v1, v2 } = releasing();
    world.settle();
    expect(world.owners.get("BTCUSDT")).toBe(v2);
    const pods = world.pods.get(v2);
    if (pods !== undefined)
      Object.assign(pods, { coherent: false, deviation: "a replica has loaded another" });
    world.settle();
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
    expect(world.status).toMatchObject({
      phase: "Degraded",
      history: [
        { completionStatus: "RolledBack", reason: "Incoherent", message: "a replica has loaded another" },
        {},
      ],
    });
  });

  it("is taken back for that in the middle of its promotion too", () => {
    const { world, v1, v2 } = releasing();
    world.settle();
    world.tell("promote-full");
    world.pass();
    expect(world.status.decision?.kind).toBe("Promote");
    const pods = world.pods.get(v2);
    if (pods !== undefined)
      Object.assign(pods, { coherent: false, deviation: "a replica has loaded another" });
    world.settle();
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
    expect(world.status).toMatchObject({ condemned: [v2], history: [{ reason: "Incoherent" }, {}] });
  });

  it("is not given everything by a person either before every replica reports what it should", () => {
    const { world, v2 } = releasing();
    world.incoherent.add(v2);
    world.settle();
    world.tell("promote-full");
    world.settle();
    expect([...world.owners.values()]).not.toContain(v2);
    expect(world.status.message).toContain("not every replica reports the model");
    world.incoherent.clear();
    const pods = world.pods.get(v2);
    if (pods !== undefined) pods.coherent = true;
    world.settle();
    expect(new Set(world.owners.values())).toEqual(new Set([v2]));
  });

  it("shows a stable revision of which a replica has loaded another model", () => {
    const { world } = releasing();
    world.settle();
    world.wait(30);
    const pods = world.pods.get(world.revision());
    expect(world.status.phase).toBe("Healthy");
    if (pods !== undefined)
      Object.assign(pods, { coherent: false, deviation: "a replica has loaded another" });
    world.settle();
    expect(world.status).toMatchObject({ phase: "Degraded", stable: { coherent: false } });
    expect(world.status.message).toContain("a replica has loaded another");
  });

  it("writes nothing and does nothing once it is settled", () => {
    const { world } = releasing();
    world.settle();
    world.wait(30);
    const before = JSON.stringify(world.status);
    const done = world.done.length;
    world.now += 3_600_000;
    const { effects, events } = world.pass();
    expect(effects).toEqual([]);
    expect(events).toEqual([]);
    expect(JSON.stringify(world.status)).toBe(before);
    expect(world.done.length).toBe(done);
  });

  it("sees through what a former operator has asked for, also where nothing is being released", () => {
    const { world, v1, v2 } = releasing();
    world.settle();
    world.tell("abort");
    world.settle();
    world.movingTo = v2;
    const { effects } = world.pass();
    expect(effects).toEqual([{ kind: "Route", instruments: ["*"], to: v1, caughtUp: false }]);
    expect(world.pass().effects).toEqual([]);
  });

  it("takes its default steps from the desk: BTCUSDT, low, medium, all, an hour each", () => {
    const { world, v2 } = releasing((spec) => {
      spec["strategy"] = { canary: {} };
    });
    world.settle();
    expect([...world.owners].filter(([, owner]) => owner === v2).map(([key]) => key)).toEqual(["BTCUSDT"]);
    const counts: number[] = [];
    for (let hour = 0; hour < 3; hour++) {
      world.now += 3_600_000;
      world.settle();
      counts.push([...world.owners.values()].filter((owner) => owner === v2).length);
    }
    expect(counts).toEqual([2, 3, 4]);
    expect(world.status.stable?.revision).not.toBe(v2);
    world.now += 3_600_000;
    world.settle();
    expect(world.status.stable?.revision).toBe(v2);
  });
});

describe("harm", () => {
  it("rolls back at once: decided in one pass, done from the next, and never tried again", () => {
    const { world, v1, v2 } = releasing(withAnalysis);
    world.templates.set("errors", errors());
    world.settle();
    world.measure = () => ({ value: 0.5, samples: 100 });
    world.now += 1_000;
    world.pass();
    const { effects } = world.pass();
    expect(world.status.decision).toMatchObject({ kind: "Rollback", reason: "AnalysisFailed" });
    expect(effects).toEqual([]);
    // It recovers, and the operator dies: what is decided stays so.
    world.measure = () => ({ value: 0, samples: 100 });
    world.pass(true);
    world.settle();
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
    expect(world.pods.get(v2)?.replicas).toBe(0);
    expect(world.status).toMatchObject({
      phase: "Degraded",
      condemned: [v2],
      history: [{ completionStatus: "RolledBack", reason: "AnalysisFailed" }, {}],
    });
    expect(world.status.history?.[0]?.message).toContain("0.5 is above 0.01");
    world.wait(100);
    expect(world.status.candidate).toBeUndefined();
    world.tell("retry", v2);
    world.settle();
    expect(world.status.candidate?.revision).toBe(v2);
  });

  it.each([
    ["no number", {}],
    ["not a number", { value: Number.NaN }],
    ["infinity", { value: Number.POSITIVE_INFINITY }],
    ["too few samples", { value: 0, samples: 3 }],
    ["Prometheus away", { error: "connection refused" }],
  ])("missing evidence holds and never passes; then the deadline rolls back: %s", (_, result) => {
    const { world, v1 } = releasing((spec) => {
      withAnalysis(spec);
      spec["progressDeadlineSeconds"] = 60;
    });
    world.templates.set("errors", errors({ minSamples: 10 }));
    world.settle();
    world.measure = () => result;
    world.wait(30);
    expect(world.status.candidate).toBeDefined();
    expect(world.status.currentStepIndex).toBe(1);
    expect(world.status.message).toMatch(/background\/errors\/errors/);
    world.wait(60);
    expect(world.status.history?.[0]).toMatchObject({
      completionStatus: "RolledBack",
      reason: "ProgressDeadlineExceeded",
    });
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
  });

  it("compares with the baseline of the same window, and is inconclusive without one", () => {
    const { world } = releasing(withAnalysis);
    world.templates.set("errors", errors({ threshold: { maxOfBaseline: "1.5" } }));
    world.measure = () => ({ value: 10, baseline: 9 });
    world.settle();
    world.wait(2);
    expect(world.status.analysis?.[0]).toMatchObject({ phase: "Running", failures: 0 });
    world.measure = () => ({ value: 10 });
    world.wait(2);
    expect(world.status.analysis?.[0]?.phase).toBe("Inconclusive");
    world.measure = () => ({ value: 20, baseline: 9 });
    world.wait(2);
    expect(world.status.history?.[0]?.completionStatus).toBe("RolledBack");
  });

  it("bears as many failures as it is told to", () => {
    const { world } = releasing(withAnalysis);
    world.templates.set("errors", errors({ failureLimit: 2 }));
    let measured = 0;
    world.measure = () => ({ value: ++measured <= 2 ? 1 : 0 });
    world.settle();
    world.wait(8);
    expect(world.status.candidate).toBeDefined();
    world.measure = () => ({ value: 1 });
    world.wait(2);
    expect(world.status.history?.[0]?.completionStatus).toBe("RolledBack");
  });

  it("at an analysis step the count has to be made up of good measurements", () => {
    const { world } = releasing((spec) => {
      spec["strategy"].canary.steps[1] = { analysis: { templates: [{ name: "errors" }] } };
    });
    world.templates.set("errors", errors({ count: 3, inconclusiveLimit: 100 }));
    world.measure = () => ({});
    world.settle();
    world.wait(20);
    expect(world.status.currentStepIndex).toBe(1);
    world.measure = () => ({ value: 0 });
    world.wait(4);
    expect(world.status.stable?.version).toBe("2.0.0");
  });

  it("pods that never come roll back at the deadline", () => {
    const { world, v1, v2 } = releasing();
    world.dead.add(v2);
    world.settle();
    world.wait(601);
    expect(world.status.history?.[0]).toMatchObject({ reason: "ProgressDeadlineExceeded", revision: v2 });
    expect(world.status.history?.[0]?.message).toContain("0 of 2 replicas are available");
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
  });

  it("pods that come and go do not pass for pods that run", () => {
    const { world, v1, v2 } = releasing((spec) => {
      spec["strategy"] = {
        canary: { steps: [{ setInstruments: { symbols: ["BTCUSDT"] } }, { setInstruments: { all: true } }] },
      };
    });
    world.pass();
    world.pass();
    // Available at each look, because each look comes when it has just been started again.
    for (let i = 0; i < 60; i++) {
      Object.assign(world.pods.get(v2) ?? {}, { available: 2, readySince: world.now, crashedAt: world.now });
      world.wait(1);
    }
    expect(world.status.stable?.revision).toBe(v1);
    expect(OWNERS(world)["*"]).toBe(v1);
    // It stays up: it goes on after half a minute, and not before.
    world.wait(28);
    expect(world.status.stable?.revision).toBe(v1);
    world.wait(3);
    expect(world.status.stable?.revision).toBe(v2);
  });

  it("a promotion waits for replicas that have just come", () => {
    const { world, v1, v2 } = releasing((spec) => {
      spec["strategy"] = { canary: { steps: [{ pause: {} }] } };
    });
    world.settle();
    world.tell("promote-full");
    world.pass();
    Object.assign(world.pods.get(v2) ?? {}, { readySince: world.now });
    world.wait(2);
    expect(world.status.stable?.revision).toBe(v1);
    world.wait(2);
    expect(world.status.stable?.revision).toBe(v2);
  });

  it("a candidate that decides and has no replica goes back in seconds, unless stable has none either", () => {
    const { world, v1, v2 } = releasing();
    world.wait(3);
    expect(OWNERS(world)).toMatchObject({ BTCUSDT: v2 });
    const downSince = world.now;
    for (const revision of [v1, v2])
      Object.assign(world.pods.get(revision) ?? {}, { available: 0, downSince });
    world.wait(20);
    expect(world.status.decision).toBeUndefined();
    expect(OWNERS(world)).toMatchObject({ BTCUSDT: v2 });
    Object.assign(world.pods.get(v1) ?? {}, { available: 2, downSince: undefined });
    Object.assign(world.pods.get(v2) ?? {}, { downSince: world.now });
    world.wait(9);
    expect(OWNERS(world)).toMatchObject({ BTCUSDT: v2 });
    world.wait(3);
    expect(OWNERS(world)).toMatchObject({ BTCUSDT: v1 });
    expect(world.status.history?.[0]).toMatchObject({
      completionStatus: "RolledBack",
      reason: "CandidateUnavailable",
    });
  });

  it("one that is down before it decides on anything has until the deadline", () => {
    const { world, v1, v2 } = releasing();
    world.dead.add(v2);
    world.pass();
    world.pass();
    Object.assign(world.pods.get(v2) ?? {}, { downSince: world.now });
    world.wait(60);
    expect(world.status.candidate?.revision).toBe(v2);
    expect(OWNERS(world)["*"]).toBe(v1);
  });

  it("does not go back to a dead stable, and does when it lives again", () => {
    const { world, v1, v2 } = releasing(withAnalysis);
    world.templates.set("errors", errors());
    world.settle();
    world.pods.set(v1, { replicas: 2, available: 0, coherent: true });
    world.measure = () => ({ value: 1 });
    world.wait(3);
    expect(world.owners.get("BTCUSDT")).toBe(v2);
    expect(world.status.message).toContain("no replica that could take over");
    world.pods.set(v1, { replicas: 2, available: 2, coherent: true });
    world.wait(1);
    expect(world.owners.get("BTCUSDT")).toBe(v1);
  });
});

describe("commands", () => {
  it("abort goes back, also in the middle of a promotion", () => {
    const { world, v1, v2 } = releasing();
    world.settle();
    world.tell("promote-full");
    world.pass();
    expect(world.status.decision?.kind).toBe("Promote");
    world.tell("abort");
    world.pass();
    world.settle();
    expect(world.status.decision).toBeUndefined();
    expect(world.status.history?.[0]).toMatchObject({ completionStatus: "Aborted", revision: v2 });
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
    expect(world.status.condemned).toEqual([v2]);
  });

  it("pause holds for as long as it takes, resume goes on", () => {
    const { world, v2 } = releasing();
    world.settle();
    world.tell("pause");
    world.now += 10 * 3_600_000;
    world.settle();
    expect(world.status).toMatchObject({ phase: "Paused", currentStepIndex: 1 });
    world.tell("resume");
    world.settle();
    expect(world.status.stable?.revision).toBe(v2);
  });

  it("promote goes one step on, promote-full to the end", () => {
    const { world, v2 } = releasing((spec) => {
      spec["strategy"].canary.steps[1] = { pause: {} };
    });
    world.settle();
    world.now += 100 * 3_600_000;
    world.settle();
    expect(world.status.currentStepIndex).toBe(1);
    world.tell("promote");
    world.settle();
    expect(world.status.stable?.revision).toBe(v2);
    const other = releasing((spec) => {
      spec["strategy"].canary.steps[1] = { pause: {} };
    });
    other.world.settle();
    other.world.tell("promote-full");
    other.world.settle();
    expect(other.world.status.history?.[0]?.completionStatus).toBe("FastPromoted");
  });

  it("promote is refused where no step is left that could be skipped", () => {
    const { world } = releasing(withAnalysis);
    world.templates.set("errors", errors({ inconclusiveLimit: 1_000 }));
    world.measure = () => ({});
    world.settle();
    world.tell("promote");
    world.settle();
    expect(world.status.lastVerb?.result).toBe("done: one step on");
    expect(world.status).toMatchObject({ currentStepIndex: 4, message: expect.stringContaining("no good") });
    world.tell("promote");
    world.settle();
    expect(world.status.lastVerb?.result).toContain("refused: it has no step left");
  });

  it("one that means another release does nothing, and each is done once", () => {
    const { world, v1 } = releasing();
    world.settle();
    world.tell("abort", v1);
    world.settle();
    expect(world.status.candidate).toBeDefined();
    expect(world.status.lastVerb?.result).toContain(`refused: it means ${v1}`);
    world.tell("pause");
    world.settle();
    world.status = { ...world.status, pausedAt: undefined };
    world.settle();
    expect(world.status.pausedAt).toBeUndefined();
    world.tell("retry");
    world.settle();
    expect(world.status.lastVerb?.result).toContain("was not rolled back");
  });

  it("nothing but abort changes what has been decided, and without a release there is nothing to command", () => {
    const { world } = releasing(withAnalysis);
    world.templates.set("errors", errors());
    world.settle();
    world.measure = () => ({ value: 1 });
    world.now += 1_000;
    world.pass();
    world.pass();
    expect(world.status.decision?.kind).toBe("Rollback");
    world.tell("promote-full");
    world.pass(true);
    expect(world.status.lastVerb?.result).toBe("refused: it goes back already");
    expect(world.status.decision?.kind).toBe("Rollback");
    world.tell("abort");
    world.pass(true);
    expect(world.status.lastVerb?.result).toBe("accepted: rollback already in progress");
    expect(world.status.decision?.kind).toBe("Rollback");
    world.settle();
    world.tell("pause", "r-any");
    world.settle();
    expect(world.status.lastVerb?.result).toBe("refused: nothing is being released");
    expect(world.status.pausedAt).toBeUndefined();
  });
});

describe("a release that is overtaken", () => {
  it("goes back to stable first, then the newer one begins", () => {
    const { world, v1, v2 } = releasing();
    world.settle();
    world.update(specOf("3.0.0"));
    const v3 = world.revision();
    world.settle();
    const routes = world.done.filter((effect) => effect.kind === "Route").map(({ to }) => to);
    expect(routes).toEqual([v1, v2, v1, v3]);
    expect(world.status).toMatchObject({
      candidate: { revision: v3 },
      history: [{ completionStatus: "Superseded", revision: v2 }, {}],
    });
    expect(world.status.condemned).toBeUndefined();
  });

  it("is taken back when the spec goes back", () => {
    const { world, v1 } = releasing();
    world.settle();
    world.update(specOf("1.0.0"));
    world.settle();
    expect(world.status).toMatchObject({ phase: "Healthy", stable: { revision: v1 } });
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
  });

  it("a broken stable does not block the fix", () => {
    const { world, v1, v2 } = releasing();
    world.pods.set(v1, { replicas: 2, available: 0, coherent: true });
    world.wait(11);
    expect(world.status.stable?.revision).toBe(v2);
  });
});

describe("blue/green", () => {
  const blueGreen =
    (more: Record<string, unknown> = {}) =>
    (spec: Draft) => {
      spec["strategy"] = { blueGreen: { autoPromotionSeconds: 5, scaleDownDelaySeconds: 60, ...more } };
    };

  it("computes in shadow, moves everything at once, and keeps the old one warm", () => {
    const { world, v1, v2 } = releasing(blueGreen());
    world.settle();
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
    world.wait(5);
    expect(new Set(world.owners.values())).toEqual(new Set([v2]));
    expect(world.status).toMatchObject({ stable: { revision: v2 }, previousStable: { revision: v1 } });
    world.wait(55);
    expect(world.pods.get(v1)?.replicas).toBe(2);
    world.wait(10);
    expect(world.pods.get(v1)?.replicas).toBe(0);
    expect(world.status.previousStable).toBeUndefined();
  });

  it("computes in shadow for as long as it is told to, however late its replicas come", () => {
    const { world, v1, v2 } = releasing(blueGreen());
    world.incoherent.add(v2);
    world.settle();
    world.wait(20);
    world.incoherent.clear();
    const pods = world.pods.get(v2);
    if (pods !== undefined) pods.coherent = true;
    world.settle();
    expect(world.status.phase).toBe("Paused");
    world.wait(4);
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
    world.wait(1);
    expect(new Set(world.owners.values())).toEqual(new Set([v2]));
  });

  it("waits for a person where it is told to, and goes back when the analysis after the move fails", () => {
    const { world, v1, v2 } = releasing(
      blueGreen({ autoPromotionEnabled: false, postPromotionAnalysis: { templates: [{ name: "errors" }] } }),
    );
    world.templates.set("errors", errors({ count: 5 }));
    world.settle();
    world.wait(100);
    expect(world.status.currentStepIndex).toBe(0);
    world.tell("promote");
    world.settle();
    expect(new Set(world.owners.values())).toEqual(new Set([v2]));
    world.measure = () => ({ value: 1 });
    world.wait(3);
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
    expect(world.status.history?.[0]?.completionStatus).toBe("RolledBack");
  });
});

describe("what stands in the way", () => {
  it("Kafka away: nothing moves, no deadline counts, and it goes on afterwards", () => {
    const { world, v2 } = releasing();
    world.pass();
    world.reachable = false;
    world.wait(3_000);
    expect(world.status.conditions?.find(({ type }) => type === "StreamReady")).toMatchObject({
      status: "False",
      reason: "KafkaUnavailable",
    });
    expect(world.status.candidate?.revision).toBe(v2);
    world.reachable = true;
    world.wait(12);
    expect(world.status.stable?.revision).toBe(v2);
  });

  it("a freeze window holds steps forward, not the way back", () => {
    const { world, v1 } = releasing((spec) => {
      withAnalysis(spec);
      spec["freezeWindows"] = [{ from: "2026-01-01T00:00:05Z", to: "2026-01-01T01:00:00Z" }];
    });
    world.templates.set("errors", errors());
    world.settle();
    world.wait(60);
    expect(world.status).toMatchObject({ phase: "Paused", currentStepIndex: 1 });
    world.measure = () => ({ value: 1 });
    world.wait(2);
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
  });

  it.each([
    ["2025-12-32T00:00:00Z", "2026-12-31T00:00:00Z"],
    ["2025-12-01T00:00:00Z", "2026-13-01T00:00:00Z"],
    ["2026-02-30T00:00:00Z", "2026-03-31T00:00:00Z"],
    ["soon", "later"],
  ])("a window that cannot be read, from %s to %s, holds: nobody can say that it does not", (from, to) => {
    const { world, v1 } = releasing((spec) => {
      spec["freezeWindows"] = [
        { from: "2001-01-01T00:00:00Z", to: "2001-01-02T00:00:00Z" },
        { from, to },
      ];
    });
    world.settle();
    world.wait(60);
    expect(OWNERS(world)).toEqual({ "*": v1 });
    expect(world.status.message).toContain(`${from} to ${to} is no window of time`);
  });

  it("a spec that cannot be acted on leaves stable as it is and says why", () => {
    const { world, v1 } = releasing();
    world.invalid = "instrumentSetRef names a set that is not there";
    world.settle();
    expect(world.status).toMatchObject({ phase: "Degraded", message: world.invalid });
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
  });

  it("the kill switch holds steps", () => {
    const { world } = releasing();
    world.settle();
    world.halted = true;
    world.wait(30);
    expect(world.status).toMatchObject({ currentStepIndex: 1, phase: "Paused" });
  });
});

it("without a stream the weight is in the numbers of replicas", () => {
  const change = (spec: Draft) => {
    delete spec["stream"];
    delete spec["instruments"];
    spec["replicas"] = 10;
    spec["strategy"] = {
      canary: {
        steps: [
          { setWeight: 20 },
          { pause: { duration: "5s" } },
          { setWeight: 50 },
          { pause: { duration: "5s" } },
        ],
      },
    };
  };
  const world = new World(specOf("1.0.0", change));
  world.hasStream = false;
  world.begin();
  const v1 = world.revision();
  world.update(specOf("2.0.0", change));
  const v2 = world.revision();
  world.settle();
  expect([world.pods.get(v1)?.replicas, world.pods.get(v2)?.replicas]).toEqual([8, 2]);
  world.wait(5);
  expect([world.pods.get(v1)?.replicas, world.pods.get(v2)?.replicas]).toEqual([5, 5]);
  world.wait(6);
  expect([world.pods.get(v1)?.replicas, world.pods.get(v2)?.replicas]).toEqual([0, 10]);
});

it("weights of a stream are mapped to instruments by volume, least first", () => {
  const { world, v2 } = releasing((spec) => {
    spec["instruments"] = [
      { symbol: "BTCUSDT", tier: "high", volumeShare: "0.6" },
      { symbol: "ETHUSDT", tier: "high", volumeShare: "0.25" },
      { symbol: "XRPUSDT", tier: "medium", volumeShare: "0.1" },
      { symbol: "UNIUSDT", tier: "low", volumeShare: "0.05" },
    ];
    spec["strategy"] = { canary: { steps: [{ setWeight: 15 }, { pause: {} }, { setWeight: 100 }] } };
  });
  world.settle();
  expect([...world.owners].filter(([, owner]) => owner === v2).map(([key]) => key)).toEqual([
    "UNIUSDT",
    "XRPUSDT",
  ]);
  expect(world.status.weight).toBe(15);
});

it("partitions that were added are given to stable", () => {
  const world = new World(specOf("1.0.0")).begin();
  world.owners.set("*", undefined);
  world.settle();
  expect(OWNERS(world)).toEqual({ "*": world.revision() });
});

it("a hard limit ends the release the first time it is passed, and holds it while it is not known", () => {
  const { world } = releasing((spec) => {
    spec["limits"] = [{ name: "loss", query: "x", max: "1000" }];
  });
  world.measure = () => ({});
  world.settle();
  world.wait(30);
  expect(world.status.currentStepIndex).toBe(0);
  world.measure = () => ({ value: 1001 });
  world.wait(2);
  expect(world.status.history?.[0]).toMatchObject({ completionStatus: "RolledBack" });
  expect(world.status.history?.[0]?.message).toContain("limit/loss: 1001 is above 1000");
});

it("going back to a revision of not long ago takes no steps", () => {
  const change = (spec: Draft) => {
    spec["rollbackWindow"] = { revisions: 2 };
  };
  const { world, v1, v2 } = releasing(change);
  world.wait(12);
  expect(world.status.stable?.revision).toBe(v2);
  world.update(specOf("1.0.0", change));
  world.settle();
  expect(world.status.stable?.revision).toBe(v1);
});

it("revisions beyond the limit of history are deleted", () => {
  const change = (spec: Draft) => {
    spec["revisionHistoryLimit"] = 2;
  };
  const { world } = releasing(change);
  for (let i = 3; i < 8; i++) {
    world.wait(12);
    world.update(specOf(`${i}.0.0`, change));
  }
  world.wait(12);
  expect(world.pods.size).toBe(3);
  expect(world.status.history?.length).toBe(2);
});
