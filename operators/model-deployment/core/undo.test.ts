import { describe, expect, it } from "vitest";
import { type Draft, specOf, World } from "#tests/support/deployment-world.ts";

// What people ask for beside a release: back to an earlier revision, and pods made anew.

/** v1 was stable, v2 is. */
function promoted(change: (spec: Draft) => void = () => {}): { world: World; v1: string; v2: string } {
  const world = new World(specOf("1.0.0", change)).begin();
  const v1 = world.revision();
  world.update(specOf("2.0.0", change));
  world.wait(12);
  return { world, v1, v2: world.revision() };
}

describe("undo", () => {
  it("goes back to the revision before without steps, and leaves what the spec names alone", () => {
    const { world, v1, v2 } = promoted();
    world.tell("undo", v2, { reason: "it loses money" });
    world.settle();
    expect(world.status.lastVerb?.result).toBe(`accepted: back to ${v1}`);
    expect(world.status.stable?.revision).toBe(v1);
    expect(world.status.stable?.version).toBe("1.0.0");
    expect(new Set(world.owners.values())).toEqual(new Set([v1]));
    expect(world.status).toMatchObject({
      phase: "Degraded",
      history: [{ version: "1.0.0" }, { version: "2.0.0" }, {}],
    });
    expect(world.status.message).toContain(`${v2} was undone: it loses money`);
    expect(world.pods.get(v2)?.replicas).toBe(0);
    const settled = JSON.stringify(world.status);
    world.wait(30);
    expect(JSON.stringify(world.status)).toBe(settled);
  });

  it("is over when the spec names another revision, or somebody says retry", () => {
    const { world, v1, v2 } = promoted();
    world.tell("undo", v2);
    world.settle();
    world.update(specOf("3.0.0"));
    world.wait(12);
    expect(world.status.stable?.version).toBe("3.0.0");
    expect(world.status.pinned).toBeUndefined();

    const other = promoted();
    other.world.tell("undo", v2);
    other.world.settle();
    expect(other.world.status.stable?.revision).toBe(v1);
    other.world.tell("retry", v2);
    other.world.wait(12);
    expect(other.world.status).toMatchObject({ phase: "Healthy", stable: { revision: v2 } });
  });

  it("of a release on its way takes it back to stable, also while it is paused", () => {
    const { world, v1, v2 } = promoted();
    world.update(specOf("3.0.0"));
    world.settle();
    const v3 = world.revision();
    world.tell("pause", v3);
    world.settle();
    world.tell("undo", v3);
    world.settle();
    expect(world.status.stable?.revision).toBe(v2);
    expect(world.status.candidate).toBeUndefined();
    expect(new Set(world.owners.values())).toEqual(new Set([v2]));
    // And further back, where that is named.
    world.tell("undo", v2, { to: v1 });
    world.settle();
    expect(world.status.stable?.revision).toBe(v1);
  });

  it("is refused where there is nothing to go back to", () => {
    const world = new World(specOf("1.0.0")).begin();
    const v1 = world.revision();
    world.tell("undo", v1);
    world.settle();
    expect(world.status.lastVerb?.result).toContain("refused: there is no revision before this one");
    world.tell("undo", v1, { to: "r-gone" });
    world.settle();
    expect(world.status.lastVerb?.result).toContain("refused: the Deployment of r-gone is gone");
    world.tell("undo", v1, { to: v1 });
    world.settle();
    expect(world.status.lastVerb?.result).toContain("is stable already");
    world.tell("undo", "r-old");
    world.settle();
    expect(world.status.lastVerb?.result).toContain("it means r-old");
  });

  it("to one that was rolled back asks for retry first", () => {
    const { world, v2 } = promoted();
    world.update(specOf("3.0.0"));
    world.settle();
    const v3 = world.revision();
    world.tell("abort", v3);
    world.settle();
    world.tell("undo", v2, { to: v3 });
    world.settle();
    expect(world.status.lastVerb?.result).toContain("was rolled back: retry it first");
  });
});

describe("restart", () => {
  it("makes the stable revision's pods anew, once", () => {
    const { world, v2 } = promoted();
    world.tell("restart", v2);
    world.settle();
    const restarts = world.done.filter(({ kind }) => kind === "Restart");
    expect(restarts).toMatchObject([{ revision: v2 }]);
    expect(world.status.lastVerb?.result).toBe("accepted: rolling restart requested");
    world.wait(10);
    expect(world.done.filter(({ kind }) => kind === "Restart").length).toBe(1);
  });

  it("is refused while something is being released", () => {
    const { world } = promoted();
    world.update(specOf("3.0.0"));
    world.settle();
    world.tell("restart", world.revision());
    world.settle();
    expect(world.status.lastVerb?.result).toContain("refused");
    expect(world.done.some(({ kind }) => kind === "Restart")).toBe(false);
  });
});

describe("notes", () => {
  it("tell the story in order, survive in status, and are bounded", () => {
    const { world } = promoted();
    const reasons = world.status.notes?.map(({ reason }) => reason);
    expect(reasons).toEqual([
      "Promoted",
      "Started",
      "StepCompleted",
      "Paused",
      "StepCompleted",
      "StepCompleted",
      "StepCompleted",
      "StepsDone",
      "Promoted",
    ]);
    for (let i = 3; i < 6; i++) {
      world.update(specOf(`${i}.0.0`));
      world.wait(12);
    }
    const ids = (world.status.notes ?? []).map(({ id }) => id);
    expect(ids.length).toBe(10);
    expect(ids).toEqual(ids.map((_, i) => (ids[0] ?? 0) + i));
  });
});

it("a promotion of what the spec no longer names scales its own pods", () => {
  const { world, v1, v2 } = promoted();
  world.tell("undo", v2);
  world.pass();
  world.pass();
  expect(world.status.decision).toMatchObject({ kind: "Promote", revision: v1 });
  world.pods.set(v1, { replicas: 1, available: 1, coherent: true });
  const { effects } = world.pass();
  expect(effects).toContainEqual({ kind: "Scale", revision: v1, replicas: 2, template: "own" });
  world.settle();
  expect(world.status.stable?.revision).toBe(v1);
});

describe("what one can go back to", () => {
  it("is what was promoted, was not rolled back since, and has a Deployment; a refusal names it", () => {
    const { world, v1, v2 } = promoted();
    world.update(specOf("3.0.0"));
    world.settle();
    const v3 = world.revision();
    world.update(specOf("2.0.0"));
    world.settle();
    expect(world.status.history?.[0]).toMatchObject({ revision: v3, completionStatus: "Superseded" });
    const refused = (to: string) => {
      world.tell("undo", v2, { to });
      world.settle();
      return world.status.lastVerb?.result;
    };
    // Its Deployment is there, and it never decided on everything.
    expect(world.pods.has(v3)).toBe(true);
    expect(refused(v3)).toBe(`refused: ${v3} was never promoted; it can go back to ${v1} (1.0.0)`);
    expect(refused("r-no")).toBe(`refused: the Deployment of r-no is gone; it can go back to ${v1} (1.0.0)`);
    world.pods.delete(v1);
    expect(refused(v1)).toBe(`refused: the Deployment of ${v1} is gone; it can go back to none`);
  });

  it("is named by a retry that is refused, too", () => {
    const { world, v2 } = promoted();
    world.update(specOf("3.0.0"));
    world.settle();
    const v3 = world.revision();
    world.tell("abort", v3);
    world.settle();
    world.tell("retry", v2);
    world.settle();
    expect(world.status.lastVerb?.result).toBe(`refused: ${v2} was not rolled back; these were: ${v3}`);
  });
});

it("undo goes back inside a freeze window and whatever spec.paused says", () => {
  const change = (spec: Draft) => {
    spec["freezeWindows"] = [{ from: "2026-01-01T00:00:10Z", to: "2026-01-01T01:00:00Z" }];
    spec["strategy"] = { canary: { steps: [{ setInstruments: { all: true } }] } };
  };
  const { world, v1, v2 } = promoted(change);
  expect(world.status.stable?.revision).toBe(v2);
  world.update({ ...world.spec, paused: true });
  world.tell("undo", v2);
  world.settle();
  expect(world.status.stable?.revision).toBe(v1);
  expect(new Set(world.owners.values())).toEqual(new Set([v1]));
});
