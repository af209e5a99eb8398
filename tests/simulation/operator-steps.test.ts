import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { analysisTemplateSpec } from "#operators/model-deployment/api/analysis.ts";
import type { Verb } from "#operators/model-deployment/core/observed.ts";
import { stepsOf } from "#operators/model-deployment/core/steps.ts";
import { checkedPass } from "#tests/support/checked-pass.ts";
import { type Draft, specOf, World } from "#tests/support/deployment-world.ts";
import { shortCanary } from "#tests/support/model-deployments.ts";

// The step machine, searched breadth first: one release of two revisions, from each state everything that can happen next.
// Its steps may be edited once, which by itself gives the candidate nothing.
// States that cannot be told apart by what can still become of them are one; of some that were taken for one that is
// checked. Pause, deadline and what a metric bears are as short as they can be and still differ. Without EXPLORE=full the
// first states only; with it all of them, or as many as STATES says.

const FULL = process.env["EXPLORE"] === "full";
const LIMIT = FULL ? Number(process.env["STATES"] ?? Number.POSITIVE_INFINITY) : 1_500;
const TELL_EVERY = 50_000;
/** Of so many states one is looked at to its end. */
const TO_THE_END = 10;
/** Of so many states one is compared with each other one that was taken for it. */
const COMPARED = 128;

const PAUSE_SECONDS = 1;
const DEADLINE_SECONDS = 2;
/** After so long without a replica stable is lost. */
const LOST_SECONDS = 11;
/** Gaps in a row that the metric bears. */
const BORNE = 1;

const VERBS: readonly Verb[] = ["abort", "pause", "resume", "promote", "promote-full", "undo", "retry"];
interface Strategy {
  readonly change: (draft: Draft) => void;
  /** The steps as they are edited in the middle of a release: to the boldest that there are. */
  readonly edit: (draft: Draft) => void;
}
const strategies: Readonly<Record<string, Strategy>> = {
  canary: {
    change: (draft) => {
      draft["strategy"] = shortCanary(`${PAUSE_SECONDS}s`);
    },
    edit: (draft) => {
      draft["strategy"] = { canary: { steps: [{ setInstruments: { all: true } }] } };
    },
  },
  "canary by weight": {
    change: (draft) => {
      draft["strategy"] = {
        canary: { steps: [{ setWeight: 50 }, { pause: { duration: `${PAUSE_SECONDS}s` } }] },
      };
      delete draft["stream"];
      delete draft["instruments"];
    },
    edit: (draft) => {
      draft["strategy"] = { canary: { steps: [{ setWeight: 100 }] } };
    },
  },
  "blue/green": {
    change: (draft) => {
      draft["strategy"] = { blueGreen: { autoPromotionSeconds: PAUSE_SECONDS, scaleDownDelaySeconds: 2 } };
    },
    edit: (draft) => {
      draft["strategy"] = { blueGreen: { autoPromotionSeconds: 0, scaleDownDelaySeconds: 2 } };
    },
  },
};

/** Of what is stable, of what is released, of a fix, and of what is released with its steps edited. */
type Specs = readonly [World["spec"], World["spec"], World["spec"], World["spec"]];

function specs({ change, edit }: Strategy): Specs {
  const spec = (version: string, more: (draft: Draft) => void = () => {}) =>
    specOf(version, (draft) => {
      draft["progressDeadlineSeconds"] = DEADLINE_SECONDS;
      draft["analysis"] = { templates: [{ name: "errors" }], startingStep: 0 };
      change(draft);
      more(draft);
    });
  return [spec("1.0.0"), spec("2.0.0"), spec("3.0.0"), spec("2.0.0", edit)];
}

function begun([one, two]: Specs): World {
  const world = new World(one);
  world.hasStream = world.spec.stream !== undefined;
  const metric = {
    name: "errors",
    interval: "1s",
    threshold: { max: "0.5" },
    inconclusiveLimit: BORNE,
    provider: { prometheus: { query: "x" } },
  };
  world.templates.set("errors", analysisTemplateSpec.parse({ metrics: [metric] }));
  world.begin();
  world.update(two);
  return world;
}

const GOOD = () => ({ value: 0 });
const BAD = () => ({ value: 1 });
const NONE = () => ({});

/** Everything that can happen to a world, each to a world of its own. */
function* successors(from: World, [one, two, , edited]: Specs): Generator<[string, World]> {
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
  if (from.spec !== one) yield ["back to 1", next((world) => world.update(one))];
  if (from.spec === two) {
    givesNothing(from, edited);
    yield ["steps edited", next((world) => world.update(edited))];
  }
  const { candidate, decision, pausedAt, editedAt } = from.status;
  if (candidate === undefined) return;
  for (const verb of VERBS) {
    const isSense =
      verb === "resume" ? pausedAt !== undefined || editedAt !== undefined : pausedAt === undefined;
    if (decision !== undefined || isSense) yield [verb, next((world) => world.tell(verb))];
  }
}

/** More looks than follow from one another. */
const LOOKS = 6;

/** An edit of the steps by itself gives the candidate nothing, and does not promote it. */
function givesNothing(from: World, edited: World["spec"]): void {
  const { candidate, decision, currentStepHash } = from.status;
  // Before its first step it has run by nothing; and what is decided is decided.
  if (candidate === undefined || decision !== undefined || currentStepHash === undefined) return;
  const { revision } = candidate;
  const world = from.clone();
  world.update(edited);
  for (let look = 0; look < LOOKS; look++) checkedPass(world);
  for (const [key, owner] of world.owners)
    if (owner === revision && from.owners.get(key) !== revision)
      throw new Error(`an edit of the steps gives the candidate ${key}`);
  if (world.status.stable?.revision === revision) throw new Error("an edit of the steps promotes");
  const replicas = (of: World) => of.pods.get(revision)?.replicas ?? 0;
  if (!from.hasStream && replicas(world) > replicas(from))
    throw new Error("an edit of the steps adds replicas");
}

/** What tells two worlds apart: what the core may still go by, and nothing else. */
function keyOf(world: World): string {
  const { status, now, spec, owners, pods, reachable, measure, command, movingTo } = world;
  // No longer ago than anything asks for: longer ago is all the same.
  const ago = (at: string | undefined, most: number) =>
    at === undefined ? undefined : Math.max(-most, Math.round((Date.parse(at) - now) / 1_000));
  const { stable, candidate, decision, previousStable, history = [], pinned } = status;
  return JSON.stringify([
    stable?.revision,
    candidate?.revision,
    decision && [decision.kind, decision.reason],
    // A stable revision that is dead is waited for for ten seconds, where something else is asked for.
    decision && decision.kind !== "Promote" && ago(decision.at, LOST_SECONDS),
    pinned && [pinned.revision, pinned.instead],
    previousStable && [previousStable.revision, ago(previousStable.scaleDownAt, 0)],
    status.condemned,
    history.map(({ revision, completionStatus }) => [revision, completionStatus]),
    sorted(owners),
    sorted(pods).map(([revision, { replicas, available }]) => [revision, replicas, available]),
    reachable,
    [GOOD, BAD, NONE].indexOf(measure as typeof GOOD),
    specHash(spec),
    command !== undefined &&
      command.id !== status.lastVerb?.id && [command.verb, "revision" in command && command.revision],
    movingTo,
    // How far it has come matters until it goes back.
    candidate !== undefined && (decision === undefined || decision.kind === "Promote") && progressOf(),
  ]);

  function progressOf(): unknown {
    const { currentStepIndex = 0, conditions = [] } = status;
    const condition = (type: string) => conditions.find((one) => one.type === type);
    const pauses = stepsOf(spec, spec.instruments ?? [])[currentStepIndex]?.pause !== undefined;
    const isPaused = condition("Paused")?.status === "True";
    return [
      currentStepIndex,
      status.currentStepHash,
      status.editedAt !== undefined && status.editedAt <= (status.stepStartedAt ?? ""),
      status.editedAt !== undefined,
      pauses && decision === undefined && ago(status.stepStartedAt, PAUSE_SECONDS),
      // Where a pause has ended the deadline counts from there.
      isPaused ||
        ago(
          [status.progressedAt, decision?.at].toSorted().findLast((at) => at !== undefined),
          DEADLINE_SECONDS + 1,
        ),
      status.pausedAt !== undefined,
      currentStepIndex === 0 && condition("Progressing")?.reason,
      status.analysis?.map(({ phase, startedAt, successes, inconclusive, measurements }) => [
        phase,
        Math.min(successes, 1),
        Math.min(inconclusive, BORNE + 1),
        ago(measurements.at(-1)?.at ?? startedAt, 1),
      ]),
      world.results.map(({ value, at }) => [value, Math.min(1_000, now - at)]),
    ];
  }
}

const specHashes = new WeakMap<World["spec"], string>();
function specHash(spec: World["spec"]): string {
  const known = specHashes.get(spec) ?? createHash("sha1").update(JSON.stringify(spec)).digest("base64url");
  specHashes.set(spec, known);
  return known;
}

function sorted<V>(map: ReadonlyMap<string, V>): [string, V][] {
  return [...map].toSorted(([a], [b]) => (a < b ? -1 : 1));
}

/** What may be the case from some moment on, and stay so. Where `back` is true everything is at the same stable one then. */
interface Circumstance {
  readonly begin: (world: World, given: Specs) => void;
  readonly back?: boolean;
}
const CIRCUMSTANCES: Readonly<Record<string, Circumstance>> = {
  "all is well": {
    begin: (world) => {
      world.measure = GOOD;
      if (world.status.pausedAt !== undefined) world.tell("resume");
    },
  },
  "harm is measured": {
    begin: (world) => {
      world.measure = BAD;
    },
  },
  "the candidate's pods never come": {
    begin: (world) => {
      world.measure = GOOD;
      world.dead.add(world.status.candidate?.revision ?? "");
    },
  },
  "a person aborts": {
    begin: (world) => {
      world.measure = GOOD;
      if (world.status.candidate !== undefined) world.tell("abort");
    },
    back: true,
  },
  "a person undoes what is being released": {
    begin: (world) => {
      world.measure = GOOD;
      if (world.status.candidate !== undefined) world.tell("undo");
    },
    back: true,
  },
  "stable is dead for good, and a fix is released": {
    begin: (world, [, , fix]) => {
      world.measure = GOOD;
      world.dead.add(world.status.stable?.revision ?? "");
      world.update(fix);
    },
  },
  "all are dead for good, and a fix is released": {
    begin: (world, [, , fix]) => {
      world.measure = GOOD;
      for (const revision of world.pods.keys()) world.dead.add(revision);
      world.update(fix);
    },
  },
};

/** Nobody asks for anything any more: whether it comes to its end, at a revision that is alive, and is silent then. */
function endOf(from: World, circumstances: string, given: Specs): string | undefined {
  const world = from.clone();
  world.reachable = true;
  const { begin, back = false } = CIRCUMSTANCES[circumstances] ?? { begin: () => {} };
  begin(world, given);
  const before = world.status;
  for (let second = 0; second < 40; second++) {
    world.now += 1_000;
    for (const [revision, pods] of world.pods) {
      const isDead = world.dead.has(revision) && pods.replicas > 0;
      pods.available = isDead ? 0 : pods.replicas;
      pods.downSince = isDead ? (pods.downSince ?? world.now) : undefined;
    }
    // Where its steps were edited a person has to say so; where harm is measured nobody has to.
    if (circumstances === "all is well" && isEdited(world)) world.tell("resume");
    for (let pass = 0; pass < 4; pass++) checkedPass(world);
  }
  const { candidate, decision, stable, message } = world.status;
  const bad = (what: string) => `where ${circumstances}: ${what}`;
  if (candidate !== undefined || decision !== undefined) return bad(`it does not end: ${message}`);
  const owners = new Set(world.owners.values());
  if (world.hasStream && (owners.size !== 1 || !owners.has(stable?.revision)))
    return bad(`${[...owners]} own it`);
  if ((world.pods.get(stable?.revision ?? "")?.available ?? 0) === 0)
    return bad(`stable is ${stable?.revision}, which is dead`);
  const stays = back && (before.candidate !== undefined || from.generation > 2);
  if (stays && stable?.revision !== before.stable?.revision) return bad(`${stable?.revision} is stable`);
  const settled = JSON.stringify(world.status);
  if (checkedPass(world) > 0 || JSON.stringify(world.status) !== settled) return bad("it is not silent");
  return undefined;
}

function isEdited({ status }: World): boolean {
  return (
    status.conditions?.some(({ type, reason }) => type === "Paused" && reason === "StepsEdited") === true
  );
}

const ENDS = Object.keys(CIRCUMSTANCES);

/** How a state was reached, last step first. */
interface Path {
  readonly step: string;
  readonly before: Path | undefined;
}
interface Reached {
  readonly world: World;
  readonly path: Path | undefined;
}

function pathSteps(path: Path | undefined): string[] {
  return path === undefined ? [] : [...pathSteps(path.before), path.step];
}

/** Millions of keys fit into memory when each is short. */
const digest = (key: string): string => createHash("sha1").update(key).digest("base64url").slice(0, 20);

/** What can become of a world, in one line. */
function futureOf(world: World, given: Specs): string {
  return [...successors(world, given)].map(([step, then]) => `${step}: ${keyOf(then)}`).join("\n");
}

describe("every state of a release that can be reached", { timeout: 7_200_000 }, () => {
  it.each(Object.entries(strategies))("%s", (name, strategy) => {
    const given = specs(strategy);
    const first = begun(given);
    first.measure = GOOD;
    const seen = new Set([digest(keyOf(first))]);
    /** Some states, and what can become of each. */
    const futures = new Map<string, string>();
    let compared = 0;
    let frontier: readonly Reached[] = [{ world: first, path: undefined }];
    let looked = 0;

    /** Whether it is one that was seen already, as all the same can become of it. */
    const isKnown = (key: string, world: World): boolean => {
      if (!seen.has(key)) return false;
      const future = futures.get(key);
      if (future === undefined) return true;
      compared += 1;
      expect(futureOf(world, given), "two states that were taken for one").toBe(future);
      return true;
    };
    const look = ({ world, path }: Reached): Reached[] => {
      looked += 1;
      if (looked % TELL_EVERY === 0) console.log(`${name}: looked at ${looked} of ${seen.size} states`);
      if (looked % COMPARED === 0) futures.set(digest(keyOf(world)), futureOf(world, given));
      if (looked % TO_THE_END === 0) {
        const circumstances = ENDS[(looked / TO_THE_END) % ENDS.length] ?? "all is well";
        const bad = endOf(world, circumstances, given);
        if (bad !== undefined) throw new Error(bad);
      }
      const found: Reached[] = [];
      for (const [step, then] of successors(world, given)) {
        const key = digest(keyOf(then));
        if (isKnown(key, then)) continue;
        seen.add(key);
        found.push({ world: then, path: { step, before: path } });
      }
      return found;
    };

    while (frontier.length > 0 && seen.size < LIMIT) {
      const next: Reached[] = [];
      for (const reached of frontier) {
        if (seen.size >= LIMIT) break;
        try {
          next.push(...look(reached));
        } catch (error) {
          const steps = pathSteps(reached.path).join(", ");
          throw new Error(`after ${steps}: ${(error as Error).message}`, { cause: error });
        }
      }
      frontier = next;
    }
    const isClosed = frontier.length === 0;
    console.log(
      `${name}: ${seen.size} states, ${isClosed ? "closed" : "not closed"}; ${compared} compared with another`,
    );
    expect(seen.size).toBeGreaterThan(1_000);
    if (LIMIT === Number.POSITIVE_INFINITY) expect(isClosed).toBe(true);
  });
});
