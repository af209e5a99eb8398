import fc from "fast-check";
import { expect, it } from "vitest";
import { analysisTemplateSpec } from "#operators/model-deployment/api/analysis.ts";
import { VERBS, type Verb } from "#operators/model-deployment/core/observed.ts";
import { checkedPass } from "#tests/support/checked-pass.ts";
import { type Draft, specOf, World } from "#tests/support/deployment-world.ts";

// Releases under whatever may happen, on the core alone: what must hold after each pass, and where it all ends.

type Op =
  | { readonly op: "wait"; readonly seconds: number }
  | { readonly op: "version"; readonly version: number }
  | { readonly op: "verb"; readonly verb: Verb }
  | { readonly op: "measure"; readonly value: number | undefined }
  | { readonly op: "kafka" | "halt" | "crash" | "heal" }
  | { readonly op: "kill"; readonly which: "stable" | "candidate" };

const op: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ op: fc.constant("wait" as const), seconds: fc.integer({ min: 1, max: 8 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ op: fc.constant("version" as const), version: fc.integer({ min: 1, max: 4 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant("verb" as const),
      verb: fc.constantFrom<Verb>(...VERBS),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constant("measure" as const), value: fc.constantFrom(0, 1, undefined) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constantFrom("kafka" as const, "halt" as const, "crash" as const, "heal" as const),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant("kill" as const),
      which: fc.constantFrom("stable" as const, "candidate" as const),
    }),
  },
);

const strategies: readonly ((spec: Draft) => void)[] = [
  () => {},
  (spec) => {
    spec["strategy"] = { blueGreen: { autoPromotionSeconds: 3, scaleDownDelaySeconds: 10 } };
  },
  (spec) => {
    spec["strategy"] = {
      canary: { steps: [{ setWeight: 25 }, { pause: { duration: "3s" } }, { setWeight: 100 }] },
    };
    spec["rollbackWindow"] = { revisions: 1 };
  },
];

function worldOf(change: (spec: Draft) => void): {
  readonly world: World;
  readonly version: (world: World, n: number) => void;
} {
  const spec = (n: number) =>
    specOf(`${n}.0.0`, (draft) => {
      draft["progressDeadlineSeconds"] = 60;
      draft["analysis"] = { templates: [{ name: "errors" }], startingStep: 0 };
      change(draft);
    });
  const world = new World(spec(1));
  const provider = { prometheus: { query: "x" } };
  world.templates.set(
    "errors",
    analysisTemplateSpec.parse({
      metrics: [{ name: "errors", interval: "1s", threshold: { max: "0.5" }, provider }],
    }),
  );
  return { world: world.begin(), version: (to, n) => to.update(spec(n)) };
}

/** What a person can do; it takes some seconds. */
const WAYS = {
  abort: 6,
  undo: 6,
  "a fix, where stable is dead for good": 36,
  "a fix, where all are dead for good": 36,
} as const;

/**
 * From every state a person can bring everything to a stable revision that is alive: by taking back what is being released where
 * stable is alive, and by a fix whatever is dead.
 */
function wayBack(
  from: World,
  way: keyof typeof WAYS,
  release: (world: World, version: number) => void,
): string | undefined {
  const stable = from.status.stable?.revision ?? "";
  const isFix = way !== "abort" && way !== "undo";
  // What the spec asks for besides is released next.
  if (!isFix && from.status.candidate?.revision !== from.revision()) return undefined;
  const world = from.clone();
  Object.assign(world, { reachable: true, halted: false, measure: () => ({ value: 0 }) });
  if (isFix) {
    const all = way === "a fix, where all are dead for good";
    for (const revision of all ? world.pods.keys() : [stable]) world.dead.add(revision);
    release(world, 9);
  } else world.tell(way);
  for (let second = 0; second < WAYS[way]; second++) {
    world.now += 1_000;
    for (const [revision, pods] of world.pods) {
      const isDead = world.dead.has(revision) && pods.replicas > 0;
      pods.available = isDead ? 0 : pods.replicas;
      pods.downSince = isDead ? (pods.downSince ?? world.now) : undefined;
    }
    for (let pass = 0; pass < 3; pass++) checkedPass(world);
  }
  const is = world.status.stable?.revision ?? "";
  const owners = [...new Set(world.owners.values())];
  const isAlive = (world.pods.get(is)?.available ?? 0) > 0;
  if (is === (isFix ? world.revision() : stable) && isAlive && owners.every((owner) => owner === is))
    return undefined;
  return `${way}: ${is} is stable, ${owners} own it: ${world.status.message}`;
}

it("whatever happens, nobody who decides is taken down, nothing condemned gains, and it ends", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...strategies),
      fc.array(op, { minLength: 5, maxLength: 40 }),
      fc.constantFrom(...(Object.keys(WAYS) as (keyof typeof WAYS)[])),
      (change, ops, way) => {
        const { world, version } = worldOf(change);
        for (const step of ops) {
          switch (step.op) {
            case "wait":
              for (let i = 0; i < step.seconds; i++) {
                world.now += 1_000;
                for (let pass = 0; pass < 4; pass++) checkedPass(world);
              }
              break;
            case "version":
              version(world, step.version);
              break;
            case "verb":
              world.tell(
                step.verb,
                world.status.candidate?.revision ??
                  (step.verb === "undo" || step.verb === "restart"
                    ? world.status.stable?.revision
                    : (world.status.pinned?.instead ?? world.status.condemned?.at(-1))) ??
                  "r-none",
              );
              break;
            case "measure": {
              const { value } = step;
              world.measure = () => (value === undefined ? {} : { value });
              break;
            }
            case "kafka":
              world.reachable = !world.reachable;
              break;
            case "halt":
              world.halted = !world.halted;
              break;
            case "crash":
              checkedPass(world, true);
              break;
            case "heal":
              for (const pods of world.pods.values()) pods.available = pods.replicas;
              break;
            case "kill": {
              const revision = world.status[step.which]?.revision ?? "";
              const pods = world.pods.get(revision);
              if (pods !== undefined) pods.available = 0;
            }
          }
          checkedPass(world);
        }
        expect(wayBack(world, way, version)).toBeUndefined();
        // All is well again, and nobody asks for anything.
        world.reachable = true;
        world.halted = false;
        world.measure = () => ({ value: 0 });
        if (world.status.pausedAt !== undefined) world.tell("resume");
        for (let second = 0; second < 200; second++) {
          world.now += 1_000;
          for (const pods of world.pods.values()) pods.available = pods.replicas;
          checkedPass(world);
        }
        expect(world.status.candidate).toBeUndefined();
        expect(world.status.decision).toBeUndefined();
        expect(new Set(world.owners.values())).toEqual(new Set([world.status.stable?.revision]));
        expect(["Healthy", "Degraded"]).toContain(world.status.phase);
        // A settled world plans nothing and writes nothing.
        const settled = JSON.stringify(world.status);
        expect(checkedPass(world)).toBe(0);
        expect(JSON.stringify(world.status)).toBe(settled);
      },
    ),
    { numRuns: Number(process.env["RUNS"] ?? 400) },
  );
}, 600_000);
