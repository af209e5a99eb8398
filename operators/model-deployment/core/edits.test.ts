import { describe, expect, it } from "vitest";
import { type Draft, specOf, World } from "#tests/support/deployment-world.ts";
import { analysisTemplateSpec } from "../api/analysis.ts";

// What a release runs by, edited in the middle of it: the candidate gets nothing by an edit, and is not promoted by one.

type Change = (draft: Draft) => void;

const canary =
  (...steps: readonly object[]): Change =>
  (draft) => {
    draft["strategy"] = { canary: { steps } };
  };
const all =
  (...changes: readonly Change[]): Change =>
  (draft) => {
    for (const change of changes) change(draft);
  };
const set =
  (name: string, value: unknown): Change =>
  (draft) => {
    draft[name] = value;
  };
const pause = (duration?: string) => ({ pause: duration === undefined ? {} : { duration } });
const symbols = (...names: readonly string[]) => ({ setInstruments: { symbols: names } });
const everything = { setInstruments: { all: true } };
const analysis = { analysis: { templates: [{ name: "errors" }] } };
const background = set("analysis", { templates: [{ name: "errors" }], startingStep: 0 });
const byWeight: Change = (draft) => {
  draft["replicas"] = 10;
  delete draft["stream"];
  delete draft["instruments"];
};

const metric = (change: object = {}) => ({
  name: "rate",
  interval: "1s",
  threshold: { max: "0.5" },
  inconclusiveLimit: 0,
  provider: { prometheus: { query: "x" } },
  ...change,
});
const template = (...metrics: readonly object[]) => analysisTemplateSpec.parse({ metrics });

interface Released {
  readonly world: World;
  readonly v1: string;
  readonly v2: string;
  /** Edits the spec in the middle of the release, and looks for some seconds at what comes of it. */
  readonly edit: (change: Change) => void;
}

/** Lets time pass at once. */
const later = (world: World, seconds: number) => {
  world.now += seconds * 1_000;
  world.settle();
};

/** v1 is stable, and v2 has come as far as it gets by itself. */
function releasing(change: Change, errors = template(metric())): Released {
  const world = new World(specOf("1.0.0", change));
  world.hasStream = world.spec.stream !== undefined;
  world.templates.set("errors", errors);
  world.begin();
  const v1 = world.revision();
  world.update(specOf("2.0.0", change));
  world.settle();
  const edit = (edited: Change) => {
    world.update(specOf("2.0.0", edited));
    world.settle();
    world.wait(5);
  };
  return { world, v1, v2: world.revision(), edit };
}

const owned = (world: World, revision: string) =>
  [...world.owners].filter(([, owner]) => owner === revision).map(([key]) => key);
const held = (world: World) =>
  world.status.conditions?.find(({ type, status }) => type === "Paused" && status === "True")?.reason;

describe("steps that are edited in the middle of a release", () => {
  const careful = canary(symbols("BTCUSDT"), pause("1h"), symbols("UNIUSDT"), pause("1h"), everything);

  it("are begun anew with what the candidate has: pauses run again, and nobody is promoted at once", () => {
    const { world, v2, edit } = releasing(careful);
    later(world, 3_600);
    expect(world.status.currentStepIndex).toBe(3);
    edit(canary(symbols("BTCUSDT"), pause("24h")));
    expect(owned(world, v2)).toEqual(["BTCUSDT", "UNIUSDT"]);
    expect(world.status).toMatchObject({ phase: "Paused", currentStepIndex: 1 });
    expect(world.status.message).toContain("pauses for 24h");
    expect(world.events.map(({ reason }) => reason)).toContain("StepsEdited");
    world.now += 24 * 3_600_000;
    world.settle();
    expect(world.status.stable?.revision).toBe(v2);
  });

  it.each<readonly [string, Change]>([
    ["to nothing but everything", canary(everything)],
    ["to none at all", canary()],
    ["to fewer, without a pause", canary(symbols("BTCUSDT"))],
    ["to a pause of no time", canary(symbols("BTCUSDT"), pause("0s"), everything)],
    ["to others first", canary(symbols("ETHUSDT"), everything)],
    ["to a scale and everything", canary({ setCanaryScale: { replicas: 2 } }, everything)],
  ])("that would give more at once hold until a person says so: %s", (_, edited) => {
    const { world, v1, v2, edit } = releasing(careful);
    edit(edited);
    expect(owned(world, v2)).toEqual(["BTCUSDT"]);
    expect(held(world)).toBe("StepsEdited");
    // It waits for as long as it takes.
    later(world, 700);
    expect(world.status.stable?.revision).toBe(v1);
    world.tell("resume");
    world.settle();
    expect(owned(world, v2).length).toBeGreaterThan(1);
  });

  it("count nothing of a pause that was under way: one that is edited begins again", () => {
    const { world, v1, v2, edit } = releasing(careful);
    later(world, 3_590);
    edit(canary(symbols("BTCUSDT"), pause("59m"), everything));
    world.wait(60);
    expect(owned(world, v2)).toEqual(["BTCUSDT"]);
    expect(world.status.stable?.revision).toBe(v1);
  });

  it("take effect at once where they hold: a pause that is put in front", () => {
    const { world, v2, edit } = releasing(
      canary(symbols("BTCUSDT"), pause("3s"), symbols("UNIUSDT"), pause("3s"), everything),
    );
    world.wait(2);
    edit(canary(symbols("BTCUSDT"), pause(), symbols("UNIUSDT"), pause("3s"), everything));
    world.wait(100);
    expect(owned(world, v2)).toEqual(["BTCUSDT"]);
    expect(world.status.message).toContain("waits for a person");
  });

  it("go on where nothing of what the release runs by is edited: freeze windows, limits, what is measured besides, a pause by the spec", () => {
    const { world, v2, edit } = releasing(careful);
    later(world, 1_800);
    const { currentStepHash, stepStartedAt } = world.status;
    edit(
      all(
        careful,
        background,
        set("freezeWindows", [{ from: "2026-01-01T00:00:00Z", to: "2026-01-01T02:00:00Z" }]),
        set("limits", [{ name: "loss", query: "x", max: "10" }]),
        set("paused", true),
      ),
    );
    expect(world.status).toMatchObject({ currentStepHash, stepStartedAt, currentStepIndex: 1 });
    expect(held(world)).toBe("PausedByUser");
    // The limit is looked at from now on.
    world.measure = () => ({ value: 11 });
    world.wait(2);
    expect(world.status.history?.[0]).toMatchObject({ revision: v2, completionStatus: "RolledBack" });
  });

  it("are those that it begins with where its replicas have not been there yet", () => {
    const world = new World(specOf("1.0.0", careful)).begin();
    world.update(specOf("2.0.0", careful));
    const v2 = world.revision();
    world.dead.add(v2);
    world.settle();
    expect(world.status.currentStepHash).toBeUndefined();
    world.update(specOf("2.0.0", canary(symbols("ETHUSDT"), pause())));
    world.dead.clear();
    Object.assign(world.pods.get(v2) ?? {}, { available: 2 });
    world.settle();
    expect(owned(world, v2)).toEqual(["ETHUSDT"]);
  });

  it("are as they are now for an object from before there was a hash", () => {
    const { world, v2, edit } = releasing(careful);
    const { currentStepHash: _, strategy: __, ...old } = world.status;
    world.status = old;
    edit(careful);
    expect(world.status).toMatchObject({ currentStepIndex: 1, currentStepHash: expect.any(String) });
    expect(owned(world, v2)).toEqual(["BTCUSDT"]);
    expect(world.status.editedAt).toBeUndefined();
  });

  it("move no share of replicas either, where there is no stream", () => {
    const { world, v1, v2, edit } = releasing(
      all(
        byWeight,
        canary({ setWeight: 10 }, pause("1h"), { setWeight: 50 }, pause("1h"), { setWeight: 100 }),
      ),
    );
    expect(world.pods.get(v2)?.replicas).toBe(1);
    for (const steps of [
      [{ setWeight: 100 }],
      [{ setCanaryScale: { replicas: 9 } }, { setWeight: 10 }],
      [{ setWeight: 50 }, pause("1h")],
    ]) {
      edit(all(byWeight, canary(...steps)));
      expect(world.pods.get(v2)?.replicas).toBe(1);
      expect(world.pods.get(v1)?.replicas).toBe(10);
      expect(held(world)).toBe("StepsEdited");
    }
    world.tell("promote");
    world.settle();
    expect(world.pods.get(v2)?.replicas).toBe(5);
  });

  it("take back a candidate that has nothing left to run with", () => {
    const { world, v1, v2, edit } = releasing(
      all(byWeight, canary({ setWeight: 10 }, pause("1h"), { setWeight: 100 })),
    );
    edit(all(byWeight, canary({ setWeight: 100 })));
    Object.assign(world.pods.get(v2) ?? {}, { available: 0, downSince: world.now });
    world.wait(12);
    expect(world.status).toMatchObject({
      stable: { revision: v1 },
      history: [{ reason: "CandidateUnavailable" }, {}],
    });
  });

  it("need no analysis before they have begun it: one that has passed runs again", () => {
    const steps = [symbols("BTCUSDT"), analysis, symbols("UNIUSDT"), pause(), everything];
    const { world, v2, edit } = releasing(
      canary(...steps),
      template(metric({ count: 3, inconclusiveLimit: 1_000 })),
    );
    world.wait(5);
    expect(owned(world, v2)).toEqual(["BTCUSDT", "UNIUSDT"]);
    world.measure = () => ({});
    edit(canary(symbols("BTCUSDT"), analysis, symbols("ETHUSDT"), pause(), everything));
    world.wait(20);
    expect(owned(world, v2)).not.toContain("ETHUSDT");
    expect(world.status.analysis).toMatchObject([{ name: "step-1/errors/rate", successes: 0 }]);
  });
});

describe("the strategy, edited in the middle of a release", () => {
  const careful = canary(symbols("BTCUSDT"), pause("1h"), everything);

  it("is a new release of the same revision: back to stable first, then by the other strategy", () => {
    const { world, v1, v2, edit } = releasing(careful);
    edit(set("strategy", { blueGreen: { autoPromotionEnabled: false } }));
    expect(owned(world, v2)).toEqual([]);
    expect(world.status).toMatchObject({
      candidate: { revision: v2 },
      stable: { revision: v1 },
      history: [{ completionStatus: "Superseded", reason: "StrategyChanged" }, {}],
    });
    expect(world.status.condemned).toBeUndefined();
    expect(world.status.message).toContain("waits for a person");
    edit(careful);
    expect(owned(world, v2)).toEqual(["BTCUSDT"]);
  });

  it("forgets no harm that was counted, and none that is seen in the same look", () => {
    const errors = template(metric({ failureLimit: 2 }));
    const { world, v1, edit } = releasing(all(careful, background), errors);
    world.measure = () => ({ value: 1 });
    world.wait(2);
    world.measure = () => ({ value: 0 });
    expect(world.status.analysis?.[0]?.failures).toBeGreaterThan(0);
    const failures = world.status.analysis?.[0]?.failures ?? 0;
    edit(all(set("strategy", { blueGreen: { autoPromotionEnabled: false } }), background));
    expect(world.status.analysis?.[0]?.failures).toBe(failures);
    world.measure = () => ({ value: 1 });
    world.now += 1_000;
    world.pass();
    world.update(specOf("2.0.0", all(careful, background)));
    world.settle();
    world.wait(1);
    expect(world.status).toMatchObject({
      stable: { revision: v1 },
      history: [{ completionStatus: "RolledBack", reason: "AnalysisFailed" }, {}, {}],
    });
  });

  it("waits for a person still, where blue/green is edited to go on by itself", () => {
    const { world, v1, edit } = releasing(set("strategy", { blueGreen: { autoPromotionEnabled: false } }));
    edit(set("strategy", { blueGreen: { autoPromotionSeconds: 0 } }));
    expect(world.status.stable?.revision).toBe(v1);
    expect(held(world)).toBe("StepsEdited");
  });

  it("takes no shorter way by a rollback window that is edited in", () => {
    const { world, v1, v2 } = releasing(careful);
    world.tell("promote-full");
    world.settle();
    expect(world.status.stable?.revision).toBe(v2);
    const back = (change: Change) => {
      world.update(specOf("1.0.0", change));
      world.settle();
    };
    back(careful);
    expect(owned(world, v1)).toEqual(["BTCUSDT"]);
    back(all(careful, set("rollbackWindow", { revisions: 5 })));
    world.wait(5);
    expect(owned(world, v1)).toEqual(["BTCUSDT"]);
    expect(held(world)).toBe("StepsEdited");
  });
});

describe("gates, edited in the middle of a release", () => {
  const steps = canary(symbols("BTCUSDT"), everything);
  const gates = (...of: readonly object[]) => all(steps, set("gates", of));
  const approve = (world: World, gate: string, by: string) => {
    world.tell("approve", undefined, { gate, by });
    world.settle();
    return world.status.lastVerb?.result;
  };

  it.each<readonly [string, Change]>([
    ["taken out", steps],
    ["opened by fewer", gates({ name: "risk", approvals: 1 })],
    ["called otherwise", gates({ name: "desk", approvals: 1 })],
  ])("open nothing: %s", (_, edited) => {
    const { world, v1, v2, edit } = releasing(gates({ name: "risk", approvals: 2 }));
    approve(world, "risk", "ann");
    edit(edited);
    expect(owned(world, v2)).toEqual(["BTCUSDT"]);
    expect(world.status.stable?.revision).toBe(v1);
    expect(["StepsEdited", "Gate"]).toContain(held(world));
  });

  it("ask anew, and who opens them all lets the release go on", () => {
    const { world, v2, edit } = releasing(gates({ name: "risk", approvals: 2 }));
    approve(world, "risk", "ann");
    edit(gates({ name: "risk", approvals: 1 }));
    expect(world.status.message).toContain("0 of 1 approvals");
    expect(approve(world, "risk", "ann")).toBe("done: risk is open");
    expect(world.status.stable?.revision).toBe(v2);
  });

  it("are closed by all of everything, however a step says it", () => {
    const { world, v1 } = releasing(
      all(
        gates({ name: "risk" }),
        canary(symbols("BTCUSDT"), { setInstruments: { volumeShare: "1.0" } }, pause()),
      ),
    );
    world.wait(10);
    expect(world.owners.get("*")).toBe(v1);
    expect(held(world)).toBe("Gate");
  });

  it("take no more approvals than they need: one gate leaves room for the others", () => {
    const { world } = releasing(gates({ name: "a" }, { name: "b" }));
    expect(approve(world, "a", "ann")).toContain("open");
    expect(approve(world, "a", "bob")).toBe("refused: a is open already");
    expect(world.status.approvals).toHaveLength(1);
  });
});

describe("instruments, edited in the middle of a release", () => {
  const bySet =
    (...steps: readonly object[]): Change =>
    (draft) => {
      canary(...steps)(draft);
      delete draft["instruments"];
      draft["instrumentSetRef"] = { name: "crypto" };
    };
  const crypto = (...given: readonly (readonly [string, "low" | "medium" | "high", string])[]) =>
    given.map(([symbol, tier, volumeShare]) => ({ symbol, tier, volumeShare }));
  const before = crypto(
    ["BTCUSDT", "high", "0.4"],
    ["ETHUSDT", "high", "0.3"],
    ["XRPUSDT", "medium", "0.2"],
    ["UNIUSDT", "low", "0.1"],
  );
  function withSet(...steps: readonly object[]): Released {
    const change = bySet(...steps);
    const world = new World(specOf("1.0.0", change));
    world.instruments = before;
    world.begin();
    const v1 = world.revision();
    world.update(specOf("2.0.0", change));
    world.settle();
    const edit = () => {
      world.settle();
      world.wait(5);
    };
    return { world, v1, v2: world.revision(), edit };
  }

  it("map a weight to no other instruments by themselves", () => {
    const { world, v2, edit } = withSet({ setWeight: 10 }, pause(), { setWeight: 100 });
    expect(owned(world, v2)).toEqual(["UNIUSDT"]);
    world.instruments = crypto(
      ["BTCUSDT", "high", "0.05"],
      ["ETHUSDT", "high", "0.05"],
      ["UNIUSDT", "low", "0.9"],
    );
    edit(() => {});
    expect(owned(world, v2)).toEqual(["UNIUSDT"]);
    expect(held(world)).toBe("StepsEdited");
  });

  it("go on where no step is about those that have come", () => {
    const { world, v2, edit } = withSet(symbols("BTCUSDT"), pause(), everything);
    world.instruments = [...before, ...crypto(["SOLUSDT", "medium", "0.1"])];
    edit(() => {});
    expect(held(world)).toBe("Pause");
    expect(owned(world, v2)).toEqual(["BTCUSDT"]);
  });

  it("hold with a sentence where a step names what is not among them, from the start or later", () => {
    const { world, v2, edit } = withSet(
      symbols("BTCUSDT"),
      pause("1s"),
      { setInstruments: { tier: "low" } },
      pause(),
    );
    world.instruments = before.filter(({ symbol }) => symbol !== "UNIUSDT");
    edit(() => {});
    expect(owned(world, v2)).toEqual(["BTCUSDT"]);
    expect(world.status).toMatchObject({
      phase: "Degraded",
      message:
        "spec.strategy.canary.steps[2].setInstruments.tier: low: no instrument of InstrumentSet crypto has it",
    });
    const unknown = new World(specOf("1.0.0", bySet(symbols("MATICUSDT"), everything)));
    unknown.instruments = before;
    unknown.settle();
    expect(unknown.status.conditions?.find(({ type }) => type === "InvalidSpec")).toMatchObject({
      status: "True",
      message: "spec.strategy.canary.steps[0].setInstruments.symbols: MATICUSDT: not in InstrumentSet crypto",
    });
    expect(unknown.pods.size).toBe(0);
  });

  it("hold the desk's own steps too, which follow from them", () => {
    const change: Change = set("strategy", { canary: {} });
    const { world, v2, edit } = releasing(change);
    later(world, 3_600);
    expect(owned(world, v2)).toEqual(["BTCUSDT", "UNIUSDT"]);
    edit((draft) => {
      change(draft);
      draft["instruments"] = [{ symbol: "ETHUSDT", tier: "high" }];
    });
    expect(owned(world, v2)).toEqual(["BTCUSDT", "UNIUSDT"]);
    expect(held(world)).toBe("StepsEdited");
  });
});

describe("what is measured, edited in the middle of a release", () => {
  const steps = canary(symbols("BTCUSDT"), pause("2s"), everything);
  const blind = () => ({});

  it("waits at its end for evidence that is edited away: a person is asked", () => {
    const one = canary(symbols("BTCUSDT"));
    const errors = template(metric({ inconclusiveLimit: 1_000 }));
    const world = new World(specOf("1.0.0", all(one, background)));
    world.templates.set("errors", errors);
    world.measure = blind;
    world.begin();
    const v1 = world.revision();
    for (const edited of [
      one,
      all(one, set("analysis", { templates: [{ name: "errors" }], startingStep: 19 })),
    ]) {
      world.update(specOf("2.0.0", all(one, background)));
      world.settle();
      world.wait(3);
      expect(world.status.message).toContain("no good measurement yet");
      world.update(specOf("2.0.0", edited));
      world.wait(5);
      expect(world.status.stable?.revision).toBe(v1);
      expect(held(world)).toBe("StepsEdited");
      world.tell("abort");
      world.settle();
      world.tell("retry", world.revision());
      world.update(specOf("1.0.0", all(one, background)));
      world.settle();
      world.update(specOf("2.0.0", all(one, background)));
      world.settle();
    }
  });

  it.each<readonly [string, object]>([
    ["bears more", { inconclusiveLimit: 1_000 }],
    ["asks for less", { threshold: { max: "100" } }],
  ])(
    "lets nobody on whose evidence was not clear before it is good once: a template that %s",
    (_, looser) => {
      const { world, v2 } = releasing(all(steps, background));
      world.measure = blind;
      world.wait(2);
      expect(world.status.analysis?.[0]?.phase).toBe("Inconclusive");
      world.templates.set("errors", template(metric(looser)));
      world.wait(60);
      expect(owned(world, v2)).toEqual(["BTCUSDT"]);
      expect(world.status.message).toContain("it was edited, and no good measurement since");
      world.measure = () => ({ value: 0 });
      world.wait(5);
      expect(world.status.stable?.revision).toBe(v2);
    },
  );

  it("keeps the harm that was counted, and goes back at once where less of it is borne", () => {
    const { world, v1 } = releasing(
      all(canary(symbols("BTCUSDT"), pause()), background),
      template(metric({ failureLimit: 5 })),
    );
    world.measure = () => ({ value: 1 });
    world.wait(2);
    world.measure = () => ({ value: 0 });
    world.templates.set("errors", template(metric({ failureLimit: 4, threshold: { max: "0.4" } })));
    world.wait(2);
    expect(world.status.analysis?.[0]).toMatchObject({ failures: 2 });
    expect(world.status.analysis?.[0]?.restarted).toBeUndefined();
    world.templates.set("errors", template(metric({ failureLimit: 1 })));
    world.settle();
    expect(world.status).toMatchObject({
      stable: { revision: v1 },
      history: [{ reason: "AnalysisFailed" }, {}],
    });
  });

  it("keeps the harm of an analysis step where that becomes another step", () => {
    const { world, v1 } = releasing(
      canary(symbols("BTCUSDT"), analysis, everything),
      template(metric({ count: 100, failureLimit: 2 })),
    );
    world.measure = () => ({ value: 1 });
    world.wait(2);
    world.measure = () => ({ value: 0 });
    world.update(specOf("2.0.0", canary(symbols("BTCUSDT"), pause("1s"), pause("1s"), analysis, everything)));
    world.wait(5);
    expect(world.status.analysis?.map(({ name, failures }) => [name, failures])).toEqual([
      ["step-3/errors/rate", 2],
    ]);
    world.measure = () => ({ value: 1 });
    world.wait(2);
    expect(world.status).toMatchObject({
      stable: { revision: v1 },
      history: [{ reason: "AnalysisFailed" }, {}],
    });
  });

  it("ends no analysis step by fewer measurements, or without one of its metrics", () => {
    const at = (...metrics: readonly object[]) =>
      releasing(canary(symbols("BTCUSDT"), analysis, everything), template(...metrics));
    const fewer = at(metric({ count: 100 }));
    fewer.world.wait(10);
    fewer.world.templates.set("errors", template(metric({ count: 5 })));
    fewer.world.settle();
    expect(fewer.world.status).toMatchObject({ currentStepIndex: 1, analysis: [{ successes: 0 }] });
    fewer.world.wait(10);
    expect(fewer.world.status.stable?.revision).toBe(fewer.v2);
    const without = at(metric({ count: 2 }), metric({ name: "lag", count: 100 }));
    without.world.measure = (name) => (name.endsWith("lag") ? {} : { value: 0 });
    without.world.wait(10);
    without.world.templates.set("errors", template(metric({ count: 2 })));
    without.world.wait(10);
    expect(owned(without.world, without.v2)).toEqual(["BTCUSDT"]);
    expect(held(without.world)).toBe("StepsEdited");
  });

  it("takes no result of a definition that is no more, nor of another revision", () => {
    const { world } = releasing(all(canary(symbols("BTCUSDT"), pause()), background));
    world.wait(2);
    world.now += 1_000;
    // It is asked for by the old definition, and answered when there is a new one.
    world.pass();
    expect(world.results).toHaveLength(1);
    world.templates.set("errors", template(metric({ threshold: { max: "0.4" } })));
    world.pass();
    expect(world.status.analysis?.[0]).toMatchObject({ successes: 0, restarted: true });
  });
});

describe("a spec that is edited to what cannot be acted on, in the middle of a release", () => {
  const steps = canary(symbols("BTCUSDT"), pause("3s"), everything);
  const invalid = (change: Change = () => {}): Released => {
    const released = releasing(all(steps, background, change));
    released.world.wait(1);
    released.world.invalid = "AnalysisTemplate errors is not there";
    return released;
  };

  it("gives the candidate nothing, and is said", () => {
    const { world, v2 } = invalid();
    world.wait(60);
    expect(owned(world, v2)).toEqual(["BTCUSDT"]);
    expect(world.status).toMatchObject({
      phase: "Degraded",
      message: "AnalysisTemplate errors is not there",
    });
    world.tell("promote-full");
    world.settle();
    expect(world.status.lastVerb?.result).toContain("refused: the spec cannot be acted on");
    world.invalid = undefined;
    world.wait(10);
    expect(world.status.stable?.revision).toBe(v2);
  });

  it("takes back a candidate that does harm, that a person aborts, or that stands so until the deadline", () => {
    const harm = invalid();
    harm.world.measure = () => ({ value: 1 });
    harm.world.wait(3);
    const abort = invalid();
    abort.world.tell("abort");
    abort.world.settle();
    const late = invalid();
    late.world.settle();
    later(late.world, 700);
    for (const [{ world, v1 }, reason] of [
      [harm, "AnalysisFailed"],
      [abort, "Aborted"],
      [late, "ProgressDeadlineExceeded"],
    ] as const) {
      expect(new Set(world.owners.values())).toEqual(new Set([v1]));
      expect(world.status.history?.[0]).toMatchObject({ reason });
    }
  });

  it("keeps nobody from going back to the revision before", () => {
    const { world, v1, v2 } = releasing(steps);
    world.tell("promote-full");
    world.settle();
    world.invalid = "InstrumentSet crypto is not there";
    world.tell("undo", v2);
    world.settle();
    world.wait(10);
    expect(world.status.stable?.revision).toBe(v1);
  });

  it("says which templates have more metrics than can be measured at once, and measures no more", () => {
    const many = template(...Array.from({ length: 20 }, (_, i) => metric({ name: `m${i}` })));
    const change = all(steps, (draft) => {
      draft["analysis"] = { templates: [1, 2, 3].map((i) => ({ name: `t${i}` })), startingStep: 1 };
    });
    const world = new World(specOf("1.0.0", change));
    for (let i = 1; i <= 3; i++) world.templates.set(`t${i}`, many);
    world.begin();
    expect(world.status.phase).toBe("Healthy");
    world.update(specOf("2.0.0", change));
    world.settle();
    world.wait(1);
    expect(world.status.analysis).toHaveLength(60);
    world.update(specOf("2.0.0", all(change, set("limits", [{ name: "loss", query: "x", max: "10" }]))));
    world.wait(2);
    expect(world.status.analysis).toHaveLength(60);
    expect(world.status.message).toContain("spec.analysis.templates: 61 metrics");
    world.measure = (name) => ({ value: name === "limit/loss" ? 11 : 0 });
    world.wait(2);
    expect(world.status.history?.[0]?.message).toContain("limit/loss: 11 is above 10");
  });
});
