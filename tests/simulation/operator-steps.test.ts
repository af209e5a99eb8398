import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { analysisTemplateSpec } from "#operators/model-deployment/api/analysis.ts";
import type { Verb } from "#operators/model-deployment/core/observed.ts";
import { checkedPass } from "#tests/support/checked-pass.ts";
import { type Draft, specOf, World } from "#tests/support/deployment-world.ts";
import { shortCanary } from "#tests/support/model-deployments.ts";

// The step machine, searched breadth first: one release of two revisions, from each state everything that can happen next.
// States that differ only in when they are, in counts of good measurements and in what was told are one. Without
// EXPLORE=full the first states only; with it 200,000, or as many as STATES says.

const LIMIT = process.env["EXPLORE"] === "full" ? Number(process.env["STATES"] ?? 200_000) : 1_500;
const TELL_EVERY = 50_000;
/** Of so many states one is looked at to its end. */
const TO_THE_END = 25;

const PAUSE_SECONDS = 2;
const DEADLINE_SECONDS = 4;
/** Errors and gaps in a row that a metric bears by default. */
const BORNE = 4;

const VERBS: readonly Verb[] = ["abort", "pause", "resume", "promote", "promote-full"];
const strategies: Readonly<Record<string, (draft: Draft) => void>> = {
  canary: (draft) => {
    draft["strategy"] = shortCanary(`${PAUSE_SECONDS}s`);
  },
  "canary by weight": (draft) => {
    draft["strategy"] = {
      canary: { steps: [{ setWeight: 50 }, { pause: { duration: `${PAUSE_SECONDS}s` } }] },
    };
    delete draft["stream"];
    delete draft["instruments"];
  },
  "blue/green": (draft) => {
    draft["strategy"] = { blueGreen: { autoPromotionSeconds: PAUSE_SECONDS, scaleDownDelaySeconds: 2 } };
  },
};

function specs(change: (draft: Draft) => void) {
  return (version: number) =>
    specOf(`${version}.0.0`, (draft) => {
      draft["progressDeadlineSeconds"] = DEADLINE_SECONDS;
      draft["analysis"] = { templates: [{ name: "errors" }], startingStep: 0 };
      change(draft);
    });
}

function begun(change: (draft: Draft) => void): World {
  const spec = specs(change);
  const world = new World(spec(1));
  world.hasStream = world.spec.stream !== undefined;
  const metric = {
    name: "errors",
    interval: "1s",
    threshold: { max: "0.5" },
    provider: { prometheus: { query: "x" } },
  };
  world.templates.set("errors", analysisTemplateSpec.parse({ metrics: [metric] }));
  world.begin();
  world.update(spec(2));
  return world;
}

const GOOD = () => ({ value: 0 });
const BAD = () => ({ value: 1 });
const NONE = () => ({});

/** Everything that can happen to a world, each to a world of its own. */
function* successors(from: World, spec: (version: number) => World["spec"]): Generator<[string, World]> {
  const next = (work: (world: World) => void): World => {
    const world = from.clone();
    work(world);
    checkedPass(world);
    return world;
  };
  yield ["look", next(() => {})];
  yield ["crash", next((world) => void checkedPass(world, true))];
  yield [
    "a second",
    next((world) => {
      world.now += 1_000;
    }),
  ];
  for (const [name, measure] of Object.entries({ good: GOOD, bad: BAD, none: NONE })) {
    if (from.measure === measure) continue;
    yield [
      name,
      next((world) => {
        world.measure = measure;
      }),
    ];
  }
  if (from.hasStream) {
    yield [
      "Kafka",
      next((world) => {
        world.reachable = !world.reachable;
      }),
    ];
  }
  for (const which of ["stable", "candidate"] as const) {
    const revision = from.status[which]?.revision ?? "";
    if (!from.pods.has(revision)) continue;
    yield [
      `pods of ${which}`,
      next((world) => {
        const pods = world.pods.get(revision);
        if (pods !== undefined) pods.available = pods.available === 0 ? pods.replicas : 0;
      }),
    ];
  }
  if (from.generation === 2) yield ["back to 1", next((world) => world.update(spec(1)))];
  const { candidate, pausedAt } = from.status;
  if (candidate === undefined) return;
  for (const verb of VERBS)
    if ((verb === "resume") === (pausedAt !== undefined)) yield [verb, next((world) => world.tell(verb))];
}

/** What tells two worlds apart. */
function keyOf(world: World): string {
  const { status, now, owners, pods, reachable, measure, generation, command, movingTo, results } = world;
  // No longer ago than anything asks for: longer ago is all the same.
  const ago = (at: string | undefined, most: number) =>
    at === undefined ? undefined : Math.max(-most, Math.round((Date.parse(at) - now) / 1_000));
  const { stable, candidate, decision, previousStable, history = [] } = status;
  return JSON.stringify([
    stable?.revision,
    candidate?.revision,
    decision && [decision.kind, decision.reason],
    previousStable && ago(previousStable.scaleDownAt, 1),
    status.currentStepIndex,
    ago(status.stepStartedAt, PAUSE_SECONDS + 1),
    ago(status.progressedAt, DEADLINE_SECONDS + 1),
    status.pausedAt !== undefined,
    status.condemned,
    history.map(({ completionStatus }) => completionStatus),
    status.conditions?.find(({ type }) => type === "Paused")?.status,
    status.currentStepIndex === 0 && status.conditions?.find(({ type }) => type === "Progressing")?.reason,
    status.analysis?.map(({ phase, successes, inconclusive, errors, measurements }) => [
      phase,
      Math.min(successes, 1),
      Math.min(inconclusive, BORNE + 1),
      Math.min(errors, BORNE + 1),
      ago(measurements.at(-1)?.at, 1),
    ]),
    [...owners],
    [...pods].map(([revision, { replicas, available }]) => [revision, replicas, available]),
    reachable,
    [GOOD, BAD, NONE].indexOf(measure as typeof GOOD),
    generation,
    command !== undefined && command.id !== status.lastVerb?.id,
    movingTo,
    results.map(({ value, at }) => [value, Math.min(1_000, now - at)]),
  ]);
}

/** All is well and nobody asks for anything: whether it comes to its end, and is silent then. */
function endOf(from: World): string | undefined {
  const world = from.clone();
  world.reachable = true;
  world.measure = GOOD;
  if (world.status.pausedAt !== undefined) world.tell("resume");
  for (let second = 0; second < 30; second++) {
    world.now += 1_000;
    for (const pods of world.pods.values()) pods.available = pods.replicas;
    for (let pass = 0; pass < 4; pass++) checkedPass(world);
  }
  const { candidate, decision, stable, message } = world.status;
  if (candidate !== undefined || decision !== undefined) return `it does not end: ${message}`;
  const owners = new Set(world.owners.values());
  if (world.hasStream && (owners.size !== 1 || !owners.has(stable?.revision))) return `${[...owners]} own it`;
  const before = JSON.stringify(world.status);
  if (checkedPass(world) > 0 || JSON.stringify(world.status) !== before) return "it is not silent";
  return undefined;
}

/** How a state was reached, last step first. */
interface Path {
  readonly step: string;
  readonly before: Path | undefined;
}
interface Reached {
  readonly world: World;
  readonly path: Path | undefined;
}

function stepsOf(path: Path | undefined): string[] {
  return path === undefined ? [] : [...stepsOf(path.before), path.step];
}

/** Millions of keys fit into memory when each is short. */
const digest = (key: string): string => createHash("sha1").update(key).digest("base64url").slice(0, 20);

describe("every state of a release that can be reached", { timeout: 7_200_000 }, () => {
  it.each(Object.entries(strategies))("%s", (name, change) => {
    const first = begun(change);
    first.measure = GOOD;
    const seen = new Set([digest(keyOf(first))]);
    let frontier: readonly Reached[] = [{ world: first, path: undefined }];
    let looked = 0;
    while (frontier.length > 0 && seen.size < LIMIT) {
      const next: Reached[] = [];
      for (const { world, path } of frontier) {
        if (seen.size >= LIMIT) break;
        looked += 1;
        if (looked % TELL_EVERY === 0) console.log(`${name}: looked at ${looked} of ${seen.size} states`);
        try {
          const bad = looked % TO_THE_END === 0 ? endOf(world) : undefined;
          if (bad !== undefined) throw new Error(bad);
          for (const [step, then] of successors(world, specs(change))) {
            const key = digest(keyOf(then));
            if (seen.has(key)) continue;
            seen.add(key);
            next.push({ world: then, path: { step, before: path } });
          }
        } catch (error) {
          throw new Error(`after ${stepsOf(path).join(", ")}: ${(error as Error).message}`, { cause: error });
        }
      }
      frontier = next;
    }
    console.log(`${name}: ${seen.size} states, ${frontier.length === 0 ? "closed" : "not closed"}`);
    expect(seen.size).toBeGreaterThan(1_000);
  });
});
