import { describe, expect, it } from "vitest";
import { type Draft, specOf, World } from "#tests/support/deployment-world.ts";
import { analysisTemplateSpec } from "../api/analysis.ts";

// Promotions that have been decided and do not come to their end at once.

const DEADLINE_SECONDS = 60;
const provider = { prometheus: { query: "x" } };
const metric = { name: "errors", interval: "1s", threshold: { max: "0.01" }, failureLimit: 1, provider };

/** The candidate decides on BTCUSDT, is to get the rest, and one of its two replicas has gone. */
function promoting(): { world: World; v1: string; v2: string } {
  const change = (draft: Draft) => {
    draft["progressDeadlineSeconds"] = DEADLINE_SECONDS;
    draft["analysis"] = { templates: [{ name: "errors" }], startingStep: 0 };
  };
  const world = new World(specOf("1.0.0", change));
  world.templates.set("errors", analysisTemplateSpec.parse({ metrics: [metric] }));
  world.begin();
  const v1 = world.revision();
  world.update(specOf("2.0.0", change));
  const v2 = world.revision();
  world.settle();
  world.wait(2);
  world.tell("promote-full");
  world.pass();
  expect(world.status.decision).toMatchObject({ kind: "Promote", revision: v2 });
  expect(world.owners.get("BTCUSDT")).toBe(v2);
  available(world, v2, 1);
  world.settle();
  expect(world.status.decision?.kind).toBe("Promote");
  return { world, v1, v2 };
}

function available(world: World, revision: string, count: number): void {
  const pods = world.pods.get(revision);
  if (pods === undefined) throw new Error(`${revision} has no pods`);
  Object.assign(pods, { available: count, downSince: count === 0 ? world.now : undefined });
}

const wentBack = (world: World, v1: string, reason: string) => {
  expect(new Set(world.owners.values())).toEqual(new Set([v1]));
  expect(world.status).toMatchObject({
    stable: { revision: v1 },
    history: [{ completionStatus: "RolledBack", reason }, {}],
  });
  expect(world.status.decision).toBeUndefined();
};

describe("a promotion that waits", () => {
  it("goes on when what it waits for is there", () => {
    const { world, v2 } = promoting();
    world.wait(DEADLINE_SECONDS - 1);
    available(world, v2, 2);
    world.settle();
    expect(world.status).toMatchObject({ phase: "Healthy", stable: { revision: v2 } });
    expect(new Set(world.owners.values())).toEqual(new Set([v2]));
  });

  it("is taken back for as much harm as a release is", () => {
    const { world, v1 } = promoting();
    world.measure = () => ({ value: 1 });
    world.wait(1);
    expect(world.status.decision?.kind).toBe("Promote");
    world.wait(1);
    wentBack(world, v1, "AnalysisFailed");
  });

  it("is taken back for harm that is measured in the moment of its end", () => {
    const { world, v1, v2 } = promoting();
    world.measure = () => ({ value: 1 });
    world.wait(1);
    world.now += 1_000;
    // Measures, and sees the harm in the pass in which there is nothing left to wait for.
    world.pass();
    for (const key of world.owners.keys()) world.owners.set(key, v2);
    available(world, v2, 2);
    world.settle();
    wentBack(world, v1, "AnalysisFailed");
  });

  it("is taken back when the candidate has had no replica for ten seconds", () => {
    const { world, v1, v2 } = promoting();
    available(world, v2, 0);
    world.wait(10);
    expect(world.status.decision?.kind).toBe("Promote");
    world.wait(1);
    wentBack(world, v1, "CandidateUnavailable");
  });

  it("is taken back at its deadline, which counts from the decision", () => {
    const { world, v1 } = promoting();
    world.wait(DEADLINE_SECONDS);
    expect(world.status.decision?.kind).toBe("Promote");
    world.wait(1);
    wentBack(world, v1, "ProgressDeadlineExceeded");
    expect(world.status.history?.[0]?.message).toContain("the candidate gets its full size");
  });

  it("is not late for what came before the decision, by whoever it was written", () => {
    const { world } = promoting();
    world.status = { ...world.status, progressedAt: new Date(world.now - 3_600_000).toISOString() };
    world.wait(2);
    expect(world.status.decision?.kind).toBe("Promote");
  });

  it.each([
    ["Kafka is away", { reachable: false }],
    ["the kill switch is on", { halted: true }],
  ])("moves nothing while %s, which no deadline counts", (_, change) => {
    const { world, v2 } = promoting();
    Object.assign(world, change);
    available(world, v2, 2);
    const routes = () => world.done.filter(({ kind }) => kind === "Route").length;
    const before = routes();
    world.wait(DEADLINE_SECONDS * 10);
    expect(routes()).toBe(before);
    expect(world.status.decision?.kind).toBe("Promote");
    Object.assign(world, { reachable: true, halted: false });
    available(world, v2, 1);
    world.wait(DEADLINE_SECONDS - 1);
    expect(world.status.decision?.kind).toBe("Promote");
    available(world, v2, 2);
    world.settle();
    expect(world.status.stable?.revision).toBe(v2);
  });

  it("writes nothing new while nothing changes", () => {
    const { world } = promoting();
    // A metric that is measured each second changes with each of them.
    world.templates.clear();
    world.settle();
    const { status } = world;
    world.wait(10);
    expect(world.status).toEqual(status);
  });
});

describe("a promotion that somebody holds", () => {
  /** Everything is there that it was waiting for. */
  const ready = (world: World, v2: string) => {
    available(world, v2, 2);
    world.settle();
  };

  it("gives the candidate nothing more while a person pauses it, which no deadline counts, and goes on after", () => {
    const { world, v1, v2 } = promoting();
    world.tell("pause");
    ready(world, v2);
    world.wait(DEADLINE_SECONDS * 10);
    expect(world.status.lastVerb).toMatchObject({ verb: "pause", result: "done" });
    expect(world.status).toMatchObject({ phase: "Paused", decision: { kind: "Promote" } });
    expect(world.owners.get("*")).toBe(v1);
    world.tell("resume");
    world.settle();
    expect(world.status.stable?.revision).toBe(v2);
  });

  it("is late while it is paused, too, as a release is: pods have not come", () => {
    const { world, v1 } = promoting();
    world.tell("pause");
    world.wait(DEADLINE_SECONDS + 1);
    wentBack(world, v1, "ProgressDeadlineExceeded");
  });

  it.each([
    ["spec.paused", { paused: true }],
    ["a gate that was closed again", { gates: [{ name: "risk", before: "Promotion", approvals: 1 }] }],
    ["a freeze window", { freezeWindows: [{ from: "2026-01-01T00:00:00Z", to: "2026-01-01T01:00:00Z" }] }],
  ])("waits for %s, and goes back meanwhile for harm", (_, change) => {
    const { world, v1, v2 } = promoting();
    const { spec } = world;
    world.update({ ...spec, ...change } as typeof spec);
    ready(world, v2);
    world.wait(DEADLINE_SECONDS * 2);
    expect(world.status).toMatchObject({ phase: "Paused", decision: { kind: "Promote" } });
    expect(world.owners.get("*")).toBe(v1);
    const harmful = world.clone();
    harmful.measure = () => ({ value: 1 });
    harmful.wait(2);
    wentBack(harmful, v1, "AnalysisFailed");
    if (world.spec.gates !== undefined) {
      world.tell("approve", v2, { gate: "risk", by: "ann" });
      world.settle();
    } else world.update(spec);
    world.settle();
    expect(world.status.stable?.revision).toBe(v2);
  });

  it("ends by itself when the freeze window has ended", () => {
    const { world, v2 } = promoting();
    const until = new Date(world.now + 30_000).toISOString().replace(".000Z", "Z");
    world.update({ ...world.spec, freezeWindows: [{ from: "2026-01-01T00:00:00Z", to: until }] });
    available(world, v2, 2);
    const { next } = world.settle();
    expect(next).toBeLessThanOrEqual(30_000);
    world.templates.clear();
    world.now += 30_000;
    world.settle();
    expect(world.status.stable?.revision).toBe(v2);
  });

  it("answers promote --full with what it waits for", () => {
    const { world, v2 } = promoting();
    world.tell("undo");
    world.settle();
    world.tell("retry", v2);
    world.settle();
    world.update({
      ...world.spec,
      freezeWindows: [{ from: "2026-01-01T00:00:00Z", to: "2026-01-01T01:00:00Z" }],
    });
    world.tell("promote-full", v2);
    world.settle();
    expect(world.status.lastVerb?.result).toBe(
      "accepted: it gets everything, but no step forward until 2026-01-01T01:00:00Z",
    );
    world.tell("resume", v2);
    world.settle();
    expect(world.status.lastVerb?.result).toBe("refused: no person has paused it");
  });

  it("gets the replicas that are asked for by then", () => {
    const { world, v2 } = promoting();
    world.update({ ...world.spec, replicas: 5 });
    world.settle();
    expect(world.pods.get(v2)?.replicas).toBe(5);
    expect(world.status).toMatchObject({ phase: "Healthy", stable: { revision: v2, replicas: 5 } });
  });
});

describe("where stable has no replica to go back to", () => {
  const dead = (world: World, ...revisions: readonly string[]) => {
    for (const revision of revisions) {
      world.dead.add(revision);
      available(world, revision, 0);
    }
  };
  const released = (name: string) =>
    specOf(name, (draft) => {
      draft["progressDeadlineSeconds"] = DEADLINE_SECONDS;
      draft["strategy"] = { canary: { steps: [{ pause: { duration: "5s" } }] } };
    });
  /** v2 has everything and does harm, and stable is dead: v2 is condemned and goes on. */
  function condemned() {
    const { world, v1, v2 } = promoting();
    dead(world, v1);
    for (const key of world.owners.keys()) world.owners.set(key, v2);
    world.measure = () => ({ value: 1 });
    world.wait(3);
    expect(world.status.decision).toMatchObject({ kind: "Rollback", revision: v2 });
    world.measure = () => ({ value: 0 });
    return { world, v1, v2 };
  }
  const everything = (world: World, revision: string) => {
    expect(world.status).toMatchObject({ phase: "Healthy", stable: { revision, available: 2 } });
    expect(new Set(world.owners.values())).toEqual(new Set([revision]));
    expect(world.status.decision).toBeUndefined();
  };

  it("nothing is given to it, and what is condemned stays so: it goes back when stable lives again", () => {
    const { world, v1, v2 } = condemned();
    world.wait(600);
    expect(world.status.decision?.kind).toBe("Rollback");
    expect(world.status.message).toContain("stable has no replica that could take over");
    expect(new Set(world.owners.values())).toEqual(new Set([v2]));
    world.dead.clear();
    available(world, v1, 2);
    world.settle();
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
    expect(world.status.condemned).toEqual([v2]);
  });

  it.each([
    ["the candidate lives", false],
    ["the candidate is dead too", true],
  ])("a fix is released from where things stand: %s", (_, both) => {
    const { world, v1, v2 } = condemned();
    if (both) dead(world, v2);
    world.update(released("3.0.0"));
    const v3 = world.revision();
    world.wait(5);
    expect(world.status.candidate?.revision).toBe(v2);
    world.wait(4);
    expect(world.status).toMatchObject({
      stable: { revision: v1 },
      candidate: { revision: v3 },
      history: [{ revision: v2, completionStatus: "RolledBack" }, {}],
      condemned: [v2],
    });
    // It decides on, for nobody else can.
    if (!both) expect(world.pods.get(v2)).toMatchObject({ replicas: 2, available: 1 });
    world.wait(20);
    everything(world, v3);
    expect(world.pods.get(v2)?.replicas).toBe(0);
  });

  it("what is condemned goes on while it is handing over", () => {
    const { world, v2 } = condemned();
    available(world, v2, 2);
    world.update(released("3.0.0"));
    world.wait(10);
    expect(world.status.candidate?.revision).toBe(world.revision());
    // Some partitions have been taken, others not.
    for (const key of world.owners.keys()) world.owners.set(key, undefined);
    world.pass();
    expect(world.pods.get(v2)?.replicas).toBe(2);
  });

  it("stable gets everything first where it comes back in the middle of the fix", () => {
    const { world, v1, v2 } = condemned();
    world.update(released("3.0.0"));
    const v3 = world.revision();
    world.wait(12);
    expect(world.status.candidate?.revision).toBe(v3);
    world.dead.clear();
    available(world, v1, 2);
    world.settle();
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
    expect(world.status).toMatchObject({
      candidate: { revision: v3 },
      history: [{ reason: "StableAvailable" }, {}, {}],
    });
    expect(world.pods.get(v2)?.replicas).toBe(0);
    world.wait(30);
    everything(world, v3);
  });

  it("a person goes back to what was promoted before it", () => {
    const { world, v1, v2 } = promoting();
    // v2 becomes stable, v3 does harm, and v2 is dead.
    available(world, v2, 2);
    world.settle();
    expect(world.status.stable?.revision).toBe(v2);
    world.update(released("3.0.0"));
    const v3 = world.revision();
    world.wait(3);
    world.tell("promote-full");
    world.pass();
    world.pass();
    dead(world, v2);
    available(world, v3, 1);
    for (const key of world.owners.keys()) world.owners.set(key, v3);
    world.tell("abort");
    world.settle();
    expect(world.status.lastVerb?.result).toBe(
      `accepted: everything goes back to ${v2}, as soon as it has a replica`,
    );
    world.tell("promote-full", v3);
    world.settle();
    expect(world.status.lastVerb?.result).toContain(`undo to ${v2} (2.0.0), ${v1} (1.0.0), or retry it`);
    world.tell("undo", v3, { to: v1 });
    world.wait(12);
    expect(world.status).toMatchObject({ stable: { revision: v1 }, condemned: [v3] });
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
  });

  it("a person tries again what was taken back, where it is all that lives", () => {
    const { world, v2 } = condemned();
    world.tell("retry", v2);
    world.settle();
    expect(world.status.lastVerb?.result).toContain("accepted: it begins anew");
    available(world, v2, 2);
    world.wait(40);
    everything(world, v2);
    expect(world.status.condemned).toBeUndefined();
  });

  it("a candidate is not taken back for being late, and is promoted when its pods are there", () => {
    const { world, v1, v2 } = promoting();
    dead(world, v1);
    world.wait(DEADLINE_SECONDS + 60);
    expect(world.status.decision?.kind).toBe("Promote");
    expect(world.status.message).toContain("it is late");
    const settled = world.clone();
    available(world, v2, 2);
    world.settle();
    everything(world, v2);
    // Stable lives again first: then it is.
    settled.dead.clear();
    available(settled, v1, 2);
    settled.settle();
    wentBack(settled, v1, "ProgressDeadlineExceeded");
  });

  it("a stable revision whose Deployment was deleted blocks nothing", () => {
    const { world, v1 } = promoting();
    world.pods.delete(v1);
    world.tell("abort");
    world.settle();
    world.update(released("3.0.0"));
    world.wait(40);
    everything(world, world.revision());
  });

  it("without a stream what is condemned serves until the fix does, and makes room for it", () => {
    const byWeight = (draft: Draft) => {
      draft["strategy"] = { canary: { steps: [{ setWeight: 50 }, { pause: {} }] } };
      delete draft["stream"];
      delete draft["instruments"];
    };
    const world = new World(specOf("1.0.0", byWeight));
    world.hasStream = false;
    world.begin();
    const v1 = world.revision();
    world.update(specOf("2.0.0", byWeight));
    const v2 = world.revision();
    world.wait(4);
    dead(world, v1);
    world.tell("abort");
    world.wait(30);
    expect(world.status.decision?.kind).toBe("Abort");
    expect(world.pods.get(v2)?.available).toBe(1);
    world.update(specOf("3.0.0", byWeight));
    world.wait(4);
    expect(world.pods.get(v2)?.available).toBe(1);
    world.tell("promote-full");
    world.wait(4);
    expect(world.status.stable?.revision).toBe(world.revision());
    expect(world.pods.get(v2)?.replicas).toBe(0);
  });

  it("without a stream the candidate ends one for one where stable has no room", () => {
    const { world, v1, v2 } = (() => {
      const byWeight = (draft: Draft) => {
        draft["replicas"] = 4;
        draft["strategy"] = { canary: { steps: [{ setWeight: 50 }, { pause: {} }] } };
        delete draft["stream"];
        delete draft["instruments"];
      };
      const begun = new World(specOf("1.0.0", byWeight));
      begun.hasStream = false;
      begun.begin();
      const first = begun.revision();
      begun.update(specOf("2.0.0", byWeight));
      begun.wait(4);
      return { world: begun, v1: first, v2: begun.revision() };
    })();
    expect([world.pods.get(v1)?.replicas, world.pods.get(v2)?.replicas]).toEqual([2, 2]);
    world.tell("abort");
    // Four pods in all: stable gets one for each that the candidate gives.
    for (let i = 0; i < 8; i++) {
      world.pass();
      const own = world.pods.get(v2)?.replicas ?? 0;
      const stable = world.pods.get(v1);
      if (stable !== undefined) stable.available = Math.min(stable.replicas, 4 - own);
    }
    expect(world.status.decision).toBeUndefined();
    expect([world.pods.get(v1)?.available, world.pods.get(v2)?.replicas]).toEqual([4, 0]);
  });
});

describe("with no replicas", () => {
  const zero = (version: string) =>
    specOf(version, (draft) => {
      draft["replicas"] = 0;
    });
  const condition = (world: World, type: string) => world.status.conditions?.find((one) => one.type === type);

  it("a settled object says that nobody decides", () => {
    const world = new World(specOf("1.0.0")).begin();
    world.update(zero("1.0.0"));
    world.settle();
    expect(world.status).toMatchObject({ phase: "Paused", message: "nobody decides: spec.replicas is 0" });
    expect(condition(world, "Available")).toMatchObject({ status: "False", reason: "ScaledToZero" });
    expect(condition(world, "Ready")?.status).toBe("False");
    world.update(specOf("1.0.0"));
    world.settle();
    expect(world.status.phase).toBe("Healthy");
    expect(condition(world, "Available")?.status).toBe("True");
  });

  it("a release gives nothing to anybody, and goes on when there are some", () => {
    const world = new World(specOf("1.0.0")).begin();
    const v1 = world.revision();
    world.update(zero("2.0.0"));
    world.settle();
    world.wait(3_600);
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
    expect(world.status).toMatchObject({ phase: "Paused", candidate: { revision: world.revision() } });
    world.update(specOf("2.0.0"));
    world.wait(20);
    expect(world.status).toMatchObject({ phase: "Healthy", stable: { revision: world.revision() } });
  });

  it("a first revision is given nothing", () => {
    const world = new World(zero("1.0.0"));
    world.settle();
    expect(world.owners.size).toBe(0);
    expect(world.status).toMatchObject({ phase: "Paused", message: "nobody decides: spec.replicas is 0" });
  });

  it.each([
    ["stable", "nobody decides: r-1 has no available replica: main: CrashLoopBackOff"],
    ["candidate", "nobody decides on BTCUSDT: r-2 has no available replica: main: CrashLoopBackOff"],
  ])("whoever owns something and has none is named, and why: %s", (which, text) => {
    const world = new World(specOf("1.0.0")).begin();
    const v1 = world.revision();
    if (which === "candidate") {
      world.update(specOf("2.0.0"));
      world.settle();
    }
    const revision = world.revision();
    Object.assign(world.pods.get(revision) ?? {}, { available: 0, problem: "main: CrashLoopBackOff" });
    world.settle();
    const said = text.replace("r-1", v1).replace("r-2", revision);
    expect(world.status.message).toContain(said);
    expect(condition(world, "Available")).toMatchObject({
      status: "False",
      reason: "NoReplica",
      message: said,
    });
    expect(world.status.phase).not.toBe("Healthy");
  });

  it("the kill switch is no decision either", () => {
    const world = new World(specOf("1.0.0")).begin();
    world.halted = true;
    world.settle();
    expect(world.status).toMatchObject({ phase: "Paused", message: "the kill switch is on: nobody decides" });
  });
});
