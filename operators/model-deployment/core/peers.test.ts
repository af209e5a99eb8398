import { describe, expect, it } from "vitest";
import { type Draft, specOf, World } from "#tests/support/deployment-world.ts";
import { analysisTemplateSpec } from "../api/analysis.ts";

// What has gone wrong in others of our kind, by the number that it has there. What needs an API server is in
// tests/faults/operator.

const byWeight = (draft: Draft) => {
  draft["replicas"] = 4;
  draft["strategy"] = { canary: { steps: [{ setWeight: 50 }, { pause: {} }, { setWeight: 100 }] } };
  delete draft["stream"];
  delete draft["instruments"];
};
const byInstruments = (draft: Draft) => {
  draft["strategy"] = {
    canary: {
      steps: [{ setInstruments: { symbols: ["BTCUSDT"] } }, { pause: {} }, { setInstruments: { all: true } }],
    },
  };
};
const watched = (draft: Draft) => {
  byInstruments(draft);
  draft["analysis"] = { templates: [{ name: "errors" }], startingStep: 0 };
};

interface Released {
  readonly world: World;
  readonly v1: string;
  readonly v2: string;
}

/** v1 is stable and v2 has been asked for. */
function begun(change: (draft: Draft) => void): Released {
  const world = new World(specOf("1.0.0", change));
  world.hasStream = change !== byWeight;
  world.templates.set(
    "errors",
    analysisTemplateSpec.parse({
      metrics: [
        {
          name: "errors",
          interval: "1s",
          threshold: { max: "0.01" },
          consecutiveErrorLimit: 1_000,
          inconclusiveLimit: 1_000,
          provider: { prometheus: { query: "x" } },
        },
      ],
    }),
  );
  world.begin();
  const v1 = world.revision();
  world.update(specOf("2.0.0", change));
  return { world, v1, v2: world.revision() };
}

/** v1 is stable and v2 stands at its pause. */
function paused(change: (draft: Draft) => void): Released {
  const released = begun(change);
  released.world.settle();
  expect(released.world.status).toMatchObject({ phase: "Paused", currentStepIndex: 1 });
  return released;
}

describe("argo-rollouts", () => {
  it("#4461: an abort is obeyed after a promotion to the end was asked for", () => {
    const { world, v1, v2 } = paused(byInstruments);
    world.tell("promote-full");
    world.pass();
    world.pass();
    expect(world.status.decision).toMatchObject({ kind: "Promote" });
    world.tell("abort", v2);
    world.settle();
    expect(world.status).toMatchObject({ stable: { revision: v1 }, condemned: [v2] });
    expect(world.status.history?.[0]?.completionStatus).toBe("Aborted");
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
  });

  it("#4479: without one good measurement there is no success, however many bad ones are borne", () => {
    const { world, v1 } = paused(watched);
    world.measure = () => ({ error: "nobody answers" });
    const good = world.status.analysis?.[0]?.successes ?? 0;
    expect(good).toBeGreaterThan(0);
    // A release that has had none.
    const blind = new World(specOf("1.0.0", watched));
    blind.templates = world.templates;
    blind.measure = () => ({ error: "nobody answers" });
    blind.begin();
    blind.update(specOf("2.0.0", watched));
    blind.settle();
    blind.tell("promote");
    blind.settle();
    blind.wait(60);
    expect(blind.status.candidate?.revision).toBe(blind.revision());
    expect(blind.status.message).toContain("no good measurement yet");
    blind.wait(600);
    expect(blind.status).toMatchObject({
      stable: { revision: v1 },
      history: [{ completionStatus: "RolledBack", reason: "ProgressDeadlineExceeded" }, {}],
    });
  });

  it("#4841: an aborted canary keeps no weight", () => {
    const { world, v1, v2 } = paused(byWeight);
    expect(world.pods.get(v2)?.replicas).toBe(2);
    world.tell("abort");
    world.settle();
    expect(world.status.weight ?? 0).toBe(0);
    expect(world.pods.get(v1)?.replicas).toBe(4);
    expect(world.pods.get(v2)?.replicas).toBe(0);
  });

  it("#4973: an aborted canary does not grow with the number of replicas", () => {
    const { world, v1, v2 } = paused(byWeight);
    world.tell("abort");
    world.settle();
    world.update(
      specOf("2.0.0", (draft) => {
        byWeight(draft);
        draft["replicas"] = 8;
      }),
    );
    world.settle();
    expect(world.pods.get(v1)?.replicas).toBe(8);
    expect(world.pods.get(v2)?.replicas).toBe(0);
  });

  it("#3372: nothing is moved before the replicas are there, neither forth nor back", () => {
    const world = new World(specOf("1.0.0", byInstruments)).begin();
    const v1 = world.revision();
    world.update(specOf("2.0.0", byInstruments));
    const v2 = world.revision();
    world.dead.add(v2);
    world.wait(60);
    const moved = (to: string) => world.done.filter((one) => one.kind === "Route" && one.to === to);
    expect(moved(v2)).toEqual([]);
    world.dead.delete(v2);
    for (const pods of world.pods.values()) pods.available = pods.replicas;
    world.settle();
    expect(moved(v2)).toHaveLength(1);
    // And back: stable has none for a while.
    const before = moved(v1).length;
    const stable = world.pods.get(v1);
    if (stable !== undefined) stable.available = 0;
    world.tell("abort");
    world.settle();
    expect(moved(v1)).toHaveLength(before);
    if (stable !== undefined) stable.available = stable.replicas;
    world.settle();
    expect(moved(v1)).toHaveLength(before + 1);
  });
});

describe("flagger", () => {
  it("#1801: a breach is acted on while a gate waits for a person", () => {
    const { world, v1, v2 } = paused(watched);
    world.measure = () => ({ value: 1 });
    world.wait(3);
    expect(world.status).toMatchObject({ stable: { revision: v1 }, condemned: [v2] });
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
  });

  it.each([
    ["a first step", 0],
    ["full size", 1],
  ])("#1603: no wait for pods is for ever: those of %s never come", (_, step) => {
    const { world, v1 } = step === 0 ? begun(byWeight) : paused(byWeight);
    const v2 = world.revision();
    world.dead.add(v2);
    if (step === 1) world.tell("promote-full");
    world.settle();
    expect(world.status.message).toContain(step === 0 ? "0 of 2 replicas" : "its full size");
    world.wait(world.spec.progressDeadlineSeconds + 1);
    expect(world.status).toMatchObject({
      stable: { revision: v1 },
      condemned: [v2],
      history: [{ completionStatus: "RolledBack", reason: "ProgressDeadlineExceeded" }, {}],
    });
    expect(world.pods.get(v1)).toMatchObject({ replicas: 4, available: 4 });
    expect(world.pods.get(v2)).toMatchObject({ replicas: 0 });
  });

  it("#1603: a first revision whose pods never come says so, and is replaced by the next", () => {
    const world = new World(specOf("1.0.0", byInstruments));
    world.dead.add(world.revision());
    world.settle();
    world.wait(world.spec.progressDeadlineSeconds + 1);
    expect(world.status).toMatchObject({ phase: "Pending", message: "0 of 2 replicas are available" });
    const first = world.revision();
    world.update(specOf("2.0.0", byInstruments));
    // Its pods take no room of the next ones.
    world.dead.add(world.revision());
    world.settle();
    expect(world.pods.get(first)?.replicas).toBe(0);
    world.dead.clear();
    Object.assign(world.pods.get(world.revision()) ?? {}, { available: 2 });
    world.settle();
    expect(world.status).toMatchObject({ phase: "Healthy", stable: { revision: world.revision() } });
  });

  it("#1898: what was promoted is what was tested: its pods are not made anew", () => {
    const { world, v2 } = paused(byInstruments);
    const before = world.done.length;
    world.tell("promote");
    world.settle();
    world.wait(60);
    expect(world.status.stable?.revision).toBe(v2);
    const touched = world.done
      .slice(before)
      .filter((one) => one.kind !== "Route" && one.kind !== "Measure" && one.revision === v2);
    expect(touched).toEqual([]);
  });
});

describe("flagger #1588", () => {
  const DEADLINE_SECONDS = 60;
  const limited = (draft: Draft) => {
    draft["progressDeadlineSeconds"] = DEADLINE_SECONDS;
    draft["limits"] = [{ name: "loss", query: "x", max: "1000" }];
  };
  const ways: Readonly<Record<string, (draft: Draft) => void>> = {
    "a canary": (draft) => {
      byInstruments(draft);
      limited(draft);
    },
    "a canary by weight": (draft) => {
      byWeight(draft);
      limited(draft);
    },
    "blue/green": (draft) => {
      draft["strategy"] = { blueGreen: { autoPromotionSeconds: 600, scaleDownDelaySeconds: 60 } };
      limited(draft);
    },
  };
  const set = (world: World, revision: string, available: number) =>
    Object.assign(world.pods.get(revision) ?? {}, {
      available,
      downSince: available === 0 ? world.now : undefined,
    });

  /** v2 is to be promoted, and one of its pods does not come. */
  function hanging(change: (draft: Draft) => void): Released {
    const world = new World(specOf("1.0.0", change));
    const draft: Draft = { stream: {} };
    change(draft);
    world.hasStream = draft["stream"] !== undefined;
    world.begin();
    const v1 = world.revision();
    world.update(specOf("2.0.0", change));
    const v2 = world.revision();
    world.settle();
    world.wait(4);
    world.tell("promote-full");
    world.pass();
    world.pass();
    expect(world.status.lastVerb?.result).toBe("accepted: it gets everything");
    set(world, v2, 1);
    world.settle();
    expect(world.status.decision).toMatchObject({ kind: "Promote", revision: v2 });
    return { world, v1, v2 };
  }

  const isBack = ({ world, v1, v2 }: Released, ended: object) => {
    expect(world.status).toMatchObject({
      stable: { revision: v1 },
      history: [{ revision: v2, ...ended }, {}],
    });
    expect(world.status.decision).toBeUndefined();
    if (world.hasStream) expect(new Set(world.owners.values())).toEqual(new Set([v1]));
    else expect(world.pods.get(v1)).toMatchObject({ replicas: 4, available: 4 });
  };

  describe.each(Object.entries(ways))("%s: a promotion that hangs", (_, change) => {
    it("(a) ends at its deadline", () => {
      const hung = hanging(change);
      hung.world.wait(DEADLINE_SECONDS + 1);
      isBack(hung, { completionStatus: "RolledBack", reason: "ProgressDeadlineExceeded" });
    });

    it("(b) ends when it has had no pod for ten seconds, and says meanwhile that nobody decides", () => {
      const hung = hanging(change);
      const { world, v1, v2 } = hung;
      for (const key of world.owners.keys()) world.owners.set(key, v2);
      set(world, v2, 0);
      world.wait(9);
      expect(world.status.decision?.kind).toBe("Promote");
      const available = world.status.conditions?.find(({ type }) => type === "Available");
      if (world.hasStream) {
        expect(available).toMatchObject({ status: "False", reason: "NoReplica" });
        expect(world.status.message).toContain(`nobody decides: ${v2} has no available replica`);
      } else expect(world.pods.get(v1)?.available).toBeGreaterThan(0);
      world.wait(2);
      isBack(hung, { completionStatus: "RolledBack", reason: "CandidateUnavailable" });
      expect(world.status.conditions?.find(({ type }) => type === "Available")?.status).toBe("True");
    });

    it("(c) ends when a limit is breached", () => {
      const hung = hanging(change);
      hung.world.measure = () => ({ value: 1001 });
      hung.world.wait(2);
      isBack(hung, { completionStatus: "RolledBack", reason: "AnalysisFailed" });
    });

    it("(d) is superseded by a newer spec, and by one that goes back", () => {
      const back = hanging(change);
      back.world.update(specOf("1.0.0", change));
      back.world.settle();
      isBack(back, { completionStatus: "Superseded", message: "the spec has gone back" });
      const { world, v1, v2 } = hanging(change);
      world.update(specOf("3.0.0", change));
      world.settle();
      expect(world.status).toMatchObject({
        stable: { revision: v1 },
        candidate: { revision: world.revision() },
        history: [{ revision: v2, completionStatus: "Superseded", message: "a newer release has come" }, {}],
      });
    });

    it("(e) goes back by undo, by rollback and by abort, and the answer says so", () => {
      const undone = hanging(change);
      undone.world.tell("undo", undone.v2, { reason: "it hangs" });
      undone.world.pass();
      expect(undone.world.status.lastVerb?.result).toBe(`accepted: back to ${undone.v1}`);
      undone.world.settle();
      isBack(undone, { completionStatus: "Superseded", message: "a person has undone it" });
      expect(undone.world.status.candidate).toBeUndefined();
      // As `baton rollback` asks for it.
      const rolledBack = hanging(change);
      rolledBack.world.tell("undo", rolledBack.v2, { to: rolledBack.v1 });
      rolledBack.world.settle();
      isBack(rolledBack, { completionStatus: "Superseded" });
      const aborted = hanging(change);
      aborted.world.tell("abort");
      aborted.world.pass();
      expect(aborted.world.status.lastVerb?.result).toBe(`accepted: everything goes back to ${aborted.v1}`);
      aborted.world.settle();
      isBack(aborted, { completionStatus: "Aborted" });
    });
  });
});
