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
