import { expect, it } from "vitest";
import { type Draft, specOf, World } from "#tests/support/deployment-world.ts";

// The scale subresource and disruption budgets, on the core alone.

const weights = (spec: Draft) => {
  delete spec["stream"];
  delete spec["instruments"];
  spec["replicas"] = 4;
  spec["strategy"] = { canary: { steps: [{ setWeight: 50 }, { pause: {} }] } };
};
const blueGreen = (spec: Draft) => {
  spec["strategy"] = { blueGreen: { autoPromotionEnabled: false } };
};
const small = (spec: Draft) => {
  spec["strategy"].canary.steps.unshift({ setCanaryScale: { replicas: 1 } });
};

/** v1 is stable, v2 has come as far as its first wait. */
function releasing(change: (spec: Draft) => void) {
  const world = new World(specOf("1.0.0", change));
  world.hasStream = world.spec.stream !== undefined;
  world.begin();
  const v1 = world.revision();
  world.update(specOf("2.0.0", change));
  world.settle();
  world.wait(4);
  return { world, v1, v2: world.revision() };
}
const shown = ({ status: { replicas, selector } }: World) => ({ replicas, selector });
const only = (revision: string) => `baton.dev/deployment=momentum,baton.dev/revision=${revision}`;

// With a stream both compute everything: an autoscaler that found both would ask for twice as many.
it.each([
  ["a canary on a stream", () => {}],
  ["one that is smaller than stable", small],
  ["a preview on a stream", blueGreen],
])("an autoscaler sees stable only beside %s", (_, change) => {
  const { world, v1, v2 } = releasing(change);
  expect(world.status.candidate?.revision).toBe(v2);
  expect(shown(world)).toEqual({ replicas: 2, selector: only(v1) });
  // The number that it writes is what comes back.
  world.update({ ...world.spec, replicas: 3 });
  world.settle();
  expect(shown(world)).toEqual({ replicas: 3, selector: only(v1) });
});

it("an autoscaler sees stable only beside a preview without a stream", () => {
  const { world, v1 } = releasing((spec) => {
    weights(spec);
    blueGreen(spec);
  });
  expect(shown(world)).toEqual({ replicas: 4, selector: only(v1) });
});

it("an autoscaler sees both where a canary's weight is in its share of the replicas", () => {
  const { world, v1, v2 } = releasing(weights);
  expect([world.pods.get(v1)?.replicas, world.pods.get(v2)?.replicas]).toEqual([2, 2]);
  const both = [v1, v2].toSorted().join(",");
  expect(shown(world)).toEqual({
    replicas: 4,
    selector: `baton.dev/deployment=momentum,baton.dev/revision in (${both})`,
  });
  world.tell("abort");
  world.settle();
  expect(shown(world)).toEqual({ replicas: 4, selector: only(v1) });
});

it("an autoscaler sees the first revision before it is stable, and no old one beside a new stable", () => {
  const world = new World(specOf("1.0.0", blueGreen));
  world.dead.add(world.revision());
  world.settle();
  const v1 = world.revision();
  expect(world.status.stable).toBeUndefined();
  expect(shown(world)).toEqual({ replicas: 2, selector: only(v1) });
  world.dead.clear();
  world.pods.clear();
  world.settle();
  world.update(specOf("2.0.0", blueGreen));
  world.settle();
  world.wait(4);
  world.tell("promote");
  world.settle();
  // Blue stays warm.
  expect(world.status.previousStable?.revision).toBe(v1);
  expect(world.pods.get(v1)?.replicas).toBe(2);
  expect(shown(world)).toEqual({ replicas: 2, selector: only(world.revision()) });
});

it("the longest selector fits into status", () => {
  const { world } = releasing(weights);
  const { selector = "" } = world.status;
  const longest = selector.replace("momentum", "x".repeat(63)).replaceAll(/r-\w+/g, "r".repeat(63));
  expect(longest.length).toBeLessThanOrEqual(256);
});

it("a revision has its disruption budget before its pods, and one that is gone or changed comes back", () => {
  const { world, v1, v2 } = releasing(() => {});
  const made = world.done.filter(({ kind }) => kind === "Protect" || kind === "Scale");
  expect(made.map((effect) => [effect.kind, "revision" in effect && effect.revision])).toEqual([
    ["Protect", v1],
    ["Scale", v1],
    ["Protect", v2],
    ["Scale", v2],
  ]);
  const lose = (revision: string, budget: "missing" | "changed") => {
    const pods = world.pods.get(revision);
    if (pods !== undefined) pods.budget = budget;
  };
  lose(v1, "missing");
  lose(v2, "changed");
  // Whatever else there is: also a spec that nothing can be made of.
  world.invalid = "spec: cannot be read";
  world.settle();
  expect(world.done.slice(-2)).toEqual([
    { kind: "Protect", revision: v1 },
    { kind: "Protect", revision: v2 },
  ]);
  world.invalid = undefined;
  world.settle();
  expect(world.pass().effects).toEqual([]);
});

it("a Deployment that somebody edited is made again where the spec still says how", () => {
  const { world, v1, v2 } = releasing(() => {});
  for (const revision of [v1, v2]) {
    const pods = world.pods.get(revision);
    if (pods !== undefined) pods.edited = true;
  }
  const { length } = world.done;
  world.settle();
  expect(world.done.slice(length)).toEqual([{ kind: "Scale", revision: v2, replicas: 2, template: "spec" }]);
  expect(world.pods.get(v1)?.edited).toBe(true);
  // Its spec comes back, and with it its template.
  world.tell("abort");
  world.update(specOf("1.0.0"));
  world.settle();
  expect(world.pods.get(v1)).toMatchObject({ replicas: 2 });
  expect(world.pods.get(v1)?.edited).toBeUndefined();
});
