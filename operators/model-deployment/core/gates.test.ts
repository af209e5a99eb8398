import { describe, expect, it } from "vitest";
import { type Draft, specOf, World } from "#tests/support/deployment-world.ts";

// Gates: where a release waits for people, and what needs none.

const withGates =
  (...gates: readonly object[]) =>
  (spec: Draft): void => {
    spec["gates"] = gates;
  };

/** A world in which v1 is stable, and v2 has come as far as it gets by itself. */
function waiting(change: (spec: Draft) => void): { world: World; v1: string; v2: string } {
  const world = new World(specOf("1.0.0", change)).begin();
  const v1 = world.revision();
  world.update(specOf("2.0.0", change));
  world.settle();
  return { world, v1, v2: world.revision() };
}

const owners = (world: World) => [...new Set(world.owners.values())];
const approve = (world: World, gate: string, by: string) => {
  world.tell("approve", undefined, { gate, by });
  world.settle();
  return world.status.lastVerb?.result;
};

describe("a gate before the promotion", () => {
  const gated = withGates({ name: "risk", before: "Promotion", approvals: 2 });

  it("lets a release come in, and holds it before the step that gives it everything", () => {
    const { world, v1, v2 } = waiting(gated);
    expect(world.owners.get("BTCUSDT")).toBe(v2);
    world.wait(3_600);
    expect(owners(world)).toContain(v1);
    expect(world.status).toMatchObject({
      phase: "Paused",
      message: expect.stringContaining("waits at the gate risk: 0 of 2 approvals"),
    });
  });

  it("takes one approval of each person, tells of each, and is open with the last one", () => {
    const { world, v2 } = waiting(gated);
    expect(approve(world, "risk", "ann")).toContain("1 of 2 approvals, so far by ann");
    expect(approve(world, "risk", "ann")).toBe("refused: ann has approved it already");
    world.wait(60);
    expect(world.status.phase).toBe("Paused");
    expect(approve(world, "risk", "bob")).toBe("done: risk is open");
    world.wait(60);
    expect(world.status).toMatchObject({ phase: "Healthy", stable: { revision: v2 } });
    expect(world.status.approvals).toBeUndefined();
  });

  it("is passed by nobody who promotes, one step or all of them", () => {
    const { world, v1 } = waiting(gated);
    world.tell("promote-full");
    world.settle();
    expect(world.status.lastVerb?.result).toContain("refused: it waits at the gate risk");
    for (let i = 0; i < 5; i++) {
      world.tell("promote");
      world.settle();
    }
    expect(owners(world)).toContain(v1);
    expect(world.status.stable?.revision).toBe(v1);
  });

  it("does not keep a harmful release from going back, nor a person from aborting it", () => {
    const { world, v1 } = waiting((spec) => {
      gated(spec);
      spec["limits"] = [{ name: "loss", query: "x", max: "10" }];
    });
    world.wait(60);
    expect(world.status.message).toContain("waits at the gate risk");
    world.measure = () => ({ value: 11 });
    world.wait(3);
    expect(owners(world)).toEqual([v1]);
    expect(world.status.history?.[0]).toMatchObject({ reason: "AnalysisFailed" });
    world.measure = () => ({ value: 0 });
    world.update(specOf("3.0.0", gated));
    world.settle();
    world.tell("abort");
    world.settle();
    expect(owners(world)).toEqual([v1]);
    expect(world.status.history?.[0]).toMatchObject({ reason: "Aborted" });
  });

  it("asks anew for the next release, and for none that goes back", () => {
    const { world, v1, v2 } = waiting(gated);
    approve(world, "risk", "ann");
    world.update(specOf("3.0.0", gated));
    world.wait(60);
    expect(world.status.message).toContain("0 of 2 approvals");
    approve(world, "risk", "ann");
    approve(world, "risk", "bob");
    world.wait(60);
    expect(world.status.stable?.revision).not.toBe(v2);
    world.tell("undo", world.status.stable?.revision);
    world.wait(60);
    expect(owners(world)).toEqual([v1]);
  });

  it("stands before the switch of blue/green too", () => {
    const { world, v1, v2 } = waiting((spec) => {
      withGates({ name: "risk" })(spec);
      delete spec["analysis"];
      spec["strategy"] = { blueGreen: {} };
    });
    world.wait(60);
    expect(owners(world)).toEqual([v1]);
    approve(world, "risk", "ann");
    world.wait(60);
    expect(owners(world)).toEqual([v2]);
  });
});

describe("a gate before the start", () => {
  const gated = withGates({ name: "desk", before: "Start" });

  it("keeps a release from getting anything, also where steps are skipped", () => {
    const { world, v1 } = waiting(gated);
    for (let i = 0; i < 5; i++) {
      world.tell("promote");
      world.settle();
      expect(world.status.lastVerb?.result).toContain("refused: it waits at the gate desk");
    }
    expect(owners(world)).toEqual([v1]);
    expect(approve(world, "desk", "ann")).toBe("done: desk is open");
    world.wait(60);
    expect(world.status.phase).toBe("Healthy");
  });

  it("refuses what names no gate of its, or nobody", () => {
    const { world } = waiting(gated);
    expect(approve(world, "door", "ann")).toBe("refused: there is no gate door; its gates: desk");
    world.tell("approve", undefined, { gate: "desk" });
    world.settle();
    expect(world.status.lastVerb?.result).toBe("refused: it does not say who approves");
  });
});
