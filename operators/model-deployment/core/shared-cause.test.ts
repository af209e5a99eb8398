import { describe, expect, it } from "vitest";
import { type Draft, specOf, World } from "#tests/support/deployment-world.ts";
import { analysisTemplateSpec } from "../api/analysis.ts";
import type { Result } from "./observed.ts";

// Harm that stable suffers as much in the same window: the release holds, and goes on when it is over.

const DEADLINE_SECONDS = 60;
const METRIC = {
  name: "latency",
  interval: "1s",
  threshold: { max: "1" },
  sharedCause: {},
  provider: { prometheus: { query: "x{r='{{revision}}'}" } },
};
type Values = Omit<Result, "name" | "at">;
const GOOD: Values = { value: 0.1, baseline: 0.1 };
const BOTH: Values = { value: 3, baseline: 2.5 };
const CANDIDATE: Values = { value: 3, baseline: 0.1 };

function releasing(metric: Draft = METRIC, more: (draft: Draft) => void = () => {}) {
  const change = (draft: Draft) => {
    draft["progressDeadlineSeconds"] = DEADLINE_SECONDS;
    draft["analysis"] = { templates: [{ name: "watched" }], startingStep: 0 };
    more(draft);
  };
  const world = new World(specOf("1.0.0", change));
  world.templates.set("watched", analysisTemplateSpec.parse({ metrics: [metric] }));
  world.measure = () => GOOD;
  world.begin();
  const v1 = world.revision();
  world.update(specOf("2.0.0", change));
  const v2 = world.revision();
  world.settle();
  return { world, v1, v2 };
}

const condition = (world: World, type: string) =>
  world.status.conditions?.find((entry) => entry.type === type);
const told = (world: World, reason: string) => world.events.filter((event) => event.reason === reason);

function isHeld(world: World): void {
  expect(world.status).toMatchObject({ phase: "Paused", currentStepIndex: 1 });
  expect(condition(world, "Progressing")).toMatchObject({ reason: "SharedCause" });
  expect(condition(world, "AnalysisPassing")).toMatchObject({ status: "False", reason: "SharedCause" });
  expect(condition(world, "Paused")).toMatchObject({ status: "True", reason: "SharedCause" });
  expect(world.status.message).toContain("3 with the candidate and 2.5 with stable: 3 is above 1");
  expect(world.status.history).toHaveLength(1);
}

describe("a release whose stable suffers as much", () => {
  it("holds for as long as it takes, people are told once, and it goes on when it is over", () => {
    const { world, v2 } = releasing();
    world.measure = () => BOTH;
    world.wait(DEADLINE_SECONDS * 3);
    isHeld(world);
    expect(told(world, "SharedCause")).toMatchObject([{ type: "Warning" }]);
    expect(world.status.analysis?.[0]).toMatchObject({ phase: "Running", failures: 0, inconclusive: 0 });
    world.measure = () => GOOD;
    world.wait(20);
    expect(world.status).toMatchObject({ phase: "Healthy", stable: { revision: v2 } });
  });

  it("is not promoted by what was measured meanwhile: it is no success either", () => {
    const { world } = releasing(METRIC, (draft) => {
      draft["strategy"] = {
        canary: {
          steps: [
            { setInstruments: { symbols: ["BTCUSDT"] } },
            { analysis: { templates: [{ name: "watched" }] } },
            { setInstruments: { all: true } },
          ],
        },
      };
    });
    world.measure = () => BOTH;
    world.wait(30);
    isHeld(world);
    expect(world.status.analysis?.map(({ successes }) => successes)).not.toContain(2);
  });

  it("goes back for what it alone does, before, meanwhile and afterwards", () => {
    for (const before of [0, 5, DEADLINE_SECONDS * 2]) {
      const { world, v1 } = releasing();
      world.measure = () => BOTH;
      world.wait(before);
      world.measure = () => CANDIDATE;
      world.wait(2);
      expect(world.status).toMatchObject({
        stable: { revision: v1 },
        history: [{ completionStatus: "RolledBack", reason: "AnalysisFailed" }, {}],
      });
      expect(new Set(world.owners.values())).toEqual(new Set([v1]));
    }
  });

  it("bears no more failures because of it: they count on where they stood", () => {
    const { world } = releasing({ ...METRIC, failureLimit: 2 });
    for (const values of [CANDIDATE, BOTH, CANDIDATE, BOTH]) {
      world.measure = () => values;
      world.wait(1);
    }
    expect(world.status.analysis?.[0]).toMatchObject({ phase: "Running", failures: 2 });
    world.measure = () => CANDIDATE;
    world.wait(2);
    expect(world.status.history?.[0]).toMatchObject({ reason: "AnalysisFailed" });
  });

  it("goes back at the deadline when nothing can be measured any more", () => {
    const { world } = releasing();
    world.measure = () => BOTH;
    world.wait(10);
    world.measure = () => ({ missing: "no series" });
    world.wait(DEADLINE_SECONDS + 5);
    expect(world.status.history?.[0]).toMatchObject({ reason: "ProgressDeadlineExceeded" });
    expect(world.status.history?.[0]?.message).toContain("no number: no series");
  });

  it("is no release of a metric that does not say so: as before it goes back", () => {
    const { sharedCause: _, ...plain } = METRIC;
    const { world } = releasing(plain);
    world.measure = () => BOTH;
    world.wait(2);
    expect(world.status.history?.[0]).toMatchObject({ reason: "AnalysisFailed" });
  });

  it("is excused by no hard limit", () => {
    const { world } = releasing(METRIC, (draft) => {
      draft["limits"] = [{ name: "loss", query: "loss", max: "2" }];
    });
    world.measure = () => BOTH;
    world.wait(2);
    expect(world.status.history?.[0]?.message).toContain("limit/loss: 3 is above 2");
  });

  it("obeys people: abort goes back, and a full promotion is theirs to decide", () => {
    const { world, v1 } = releasing();
    world.measure = () => BOTH;
    world.wait(5);
    world.tell("abort");
    world.settle();
    expect(world.status).toMatchObject({
      stable: { revision: v1 },
      history: [{ completionStatus: "Aborted" }, {}],
    });
  });
});

describe("a promotion that is decided while stable suffers as much", () => {
  function promoting() {
    const made = releasing();
    const { world, v2 } = made;
    world.wait(2);
    world.tell("promote-full");
    world.pass();
    expect(world.status.decision).toMatchObject({ kind: "Promote", revision: v2 });
    // One of its two replicas has gone: it waits.
    const pods = world.pods.get(v2);
    if (pods === undefined) throw new Error("no pods");
    pods.available = 1;
    world.settle();
    return { ...made, pods };
  }

  it("does not go back for it, and comes to its end", () => {
    const { world, v2, pods } = promoting();
    world.measure = () => BOTH;
    world.wait(10);
    expect(world.status.decision).toMatchObject({ kind: "Promote" });
    expect(world.status.analysis?.[0]?.measurements.at(-1)).toMatchObject({ reason: "SharedCause" });
    pods.available = 2;
    world.measure = () => GOOD;
    world.wait(5);
    expect(world.status).toMatchObject({ phase: "Healthy", stable: { revision: v2 } });
  });

  it("gives nothing more for that time, where it follows from the steps", () => {
    const { world, v2 } = releasing(METRIC, (draft) => {
      const steps = [{ setInstruments: { symbols: ["BTCUSDT"] } }, { pause: { duration: "1s" } }];
      draft["strategy"] = { canary: { steps } };
    });
    const pods = world.pods.get(v2);
    if (pods === undefined) throw new Error("no pods");
    for (let pass = 0; pass < 20 && world.status.decision === undefined; pass++) {
      world.now += 500;
      world.pass();
    }
    expect(world.status.decision).toMatchObject({ kind: "Promote", reason: "StepsDone" });
    pods.available = 1;
    world.measure = () => BOTH;
    world.wait(2);
    pods.available = 2;
    world.wait(DEADLINE_SECONDS * 2);
    expect(condition(world, "Progressing")).toMatchObject({ reason: "SharedCause" });
    const owned = [...world.owners].filter(([, owner]) => owner === v2).map(([key]) => key);
    expect(owned).toEqual(["BTCUSDT"]);
    world.measure = () => GOOD;
    world.wait(5);
    expect(world.status).toMatchObject({ phase: "Healthy", stable: { revision: v2 } });
  });

  it("goes back for what the candidate alone does", () => {
    const { world, v1 } = promoting();
    world.measure = () => BOTH;
    world.wait(10);
    world.measure = () => CANDIDATE;
    world.wait(3);
    expect(world.status).toMatchObject({
      stable: { revision: v1 },
      history: [{ completionStatus: "RolledBack", reason: "AnalysisFailed" }, {}],
    });
  });
});
