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
  readonly version: (n: number) => void;
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
  return { world: world.begin(), version: (n) => world.update(spec(n)) };
}

it("whatever happens, nobody who decides is taken down, nothing condemned gains, and it ends", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...strategies),
      fc.array(op, { minLength: 5, maxLength: 40 }),
      (change, ops) => {
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
              version(step.version);
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
