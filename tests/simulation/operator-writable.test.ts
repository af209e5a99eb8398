import fc from "fast-check";
import { expect, it } from "vitest";
import { parseCommand } from "#operators/model-deployment/adapters/command.ts";
import { type AnalysisTemplateSpec, analysisTemplateSpec } from "#operators/model-deployment/api/analysis.ts";
import type { ModelDeploymentSpec } from "#operators/model-deployment/api/model-deployment.ts";
import { MAX_APPROVALS, type ModelDeploymentStatus } from "#operators/model-deployment/api/status.ts";
import { VERBS } from "#operators/model-deployment/core/observed.ts";
import { type Draft, specOf, World } from "#tests/support/deployment-world.ts";
import { assertWritable } from "#tests/support/writable.ts";

// Whatever a legal spec and a person say, and whatever is measured, the status that follows can be written. Each pass of a World
// is checked; here everything is as long, as much and as odd as it may be.

/** Characters of one, two, three and four bytes, such as JSON writes with six, and half of one. */
const odd = fc.constantFrom("a", "é", "…", "😀", "\u0001", '"', "\ud83d");
const oddText = (max: number) =>
  fc.tuple(odd, fc.integer({ min: 1, max })).map(([unit, length]) => unit.repeat(length).slice(0, length));
/** A legal text: what comes from the API server has no halves. */
const legalText = (max: number) => oddText(max).map((text) => text.toWellFormed());
/** Names as long as they may be, that differ in their last characters. */
const longName = (of: string, i: number, max = 63) =>
  `${of.padEnd(max - 3, "x")}${String(i).padStart(3, "0")}`;
const upTo = (max: number) => fc.oneof(fc.integer({ min: 0, max }), fc.constantFrom(0, 1, max));

const SYMBOL = (i: number) => longName("S", i, 32).toUpperCase();
const TEMPLATES = Array.from({ length: 10 }, (_, i) => longName("template", i));
const GATES = Array.from({ length: 10 }, (_, i) => longName("gate", i));
const provider = { prometheus: { query: "x" } };

const template = fc
  .tuple(fc.integer({ min: 1, max: 20 }), fc.constantFrom("0.5", "100"))
  .map(([count, max]) =>
    analysisTemplateSpec.parse({
      metrics: Array.from({ length: count }, (_, i) => ({
        name: longName("metric", i),
        interval: "1s",
        threshold: { max },
        failureLimit: 1_000,
        inconclusiveLimit: 1_000,
        provider,
      })),
    }),
  );
const templates = fc.array(template, { minLength: 10, maxLength: 10 });
const refs = fc
  .integer({ min: 1, max: 10 })
  .map((count) => ({ templates: TEMPLATES.slice(0, count).map((name) => ({ name })) }));

const step = fc.oneof(
  fc.integer({ min: 1, max: 50 }).map((count) => ({
    setInstruments: { symbols: Array.from({ length: count }, (_, i) => SYMBOL(i)) },
  })),
  fc.constant({ setInstruments: { tier: "low" } }),
  fc.constantFrom({ pause: { duration: "1s" } }, { pause: {} }),
  refs.map((analysis) => ({ analysis })),
  fc.constant({ setInstruments: { all: true } }),
);
const strategy = fc.oneof(
  fc
    .array(step, { maxLength: 19 })
    .map((steps) => ({ canary: { steps: [{ setInstruments: { symbols: [SYMBOL(0)] } }, ...steps] } })),
  fc.record({
    blueGreen: fc.record({ autoPromotionEnabled: fc.boolean(), prePromotionAnalysis: refs }),
  }),
);

const spec: fc.Arbitrary<(draft: Draft) => void> = fc
  .record({
    version: legalText(64),
    strategy,
    analysis: fc.option(refs),
    limits: upTo(10),
    gates: upTo(10),
    approvals: fc.integer({ min: 1, max: 10 }),
    instruments: fc.integer({ min: 50, max: 300 }),
  })
  .map((given) => (draft) => {
    draft["model"].version = given.version;
    draft["strategy"] = given.strategy;
    if (given.analysis !== null) draft["analysis"] = given.analysis;
    draft["limits"] = Array.from({ length: given.limits }, (_, i) => ({
      name: longName("limit", i),
      query: "x",
      max: "1",
    }));
    draft["gates"] = GATES.slice(0, given.gates).map((name) => ({ name, approvals: given.approvals }));
    draft["instruments"] = Array.from({ length: given.instruments }, (_, i) => ({
      symbol: SYMBOL(i),
      tier: i % 2 === 0 ? "low" : "high",
    }));
    draft["revisionHistoryLimit"] = 100;
    draft["progressDeadlineSeconds"] = 3_600;
  });

const command = fc.record(
  {
    id: fc.oneof(fc.uuid(), oddText(100)),
    verb: fc.oneof(fc.constantFrom(...VERBS, "approve", "approve"), oddText(40)),
    revision: fc.oneof({ weight: 8, arbitrary: fc.constant("CANDIDATE") }, oddText(100)),
    to: oddText(100),
    gate: fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...GATES) }, oddText(100)),
    by: oddText(300),
    reason: oddText(400),
  },
  { requiredKeys: ["id", "verb", "revision"] },
);

type Op =
  | { readonly op: "command"; readonly command: Readonly<Record<string, string>> }
  | { readonly op: "edit"; readonly change: (draft: Draft) => void }
  | { readonly op: "templates"; readonly templates: readonly AnalysisTemplateSpec[] }
  | { readonly op: "measure"; readonly error: string | undefined }
  | { readonly op: "deviate"; readonly what: string }
  | { readonly op: "owners"; readonly count: number };
const op: fc.Arbitrary<Op> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant("command" as const), command }) },
  fc.record({ op: fc.constant("edit" as const), change: spec }),
  fc.record({ op: fc.constant("templates" as const), templates }),
  fc.record({ op: fc.constant("measure" as const), error: fc.option(oddText(5_000), { nil: undefined }) }),
  fc.record({ op: fc.constant("deviate" as const), what: oddText(5_000) }),
  fc.record({ op: fc.constant("owners" as const), count: fc.integer({ min: 1, max: 900 }) }),
);

/** A status that has been through everything, with as much in it as there may be. */
function fullStatus(status: ModelDeploymentStatus, unit: string): ModelDeploymentStatus {
  const text = (max: number) => unit.repeat(max).slice(0, max).toWellFormed();
  const at = "2026-01-01T00:00:00.000Z";
  const full: ModelDeploymentStatus = {
    ...status,
    history: Array.from({ length: 100 }, (_, i) => ({
      revision: longName("r", i),
      version: text(64),
      digest: `sha256:${"a".repeat(64)}`,
      completionStatus: "RolledBack" as const,
      reason: "AnalysisFailed",
      message: text(1_024),
      startedAt: at,
      endedAt: at,
    })),
    condemned: Array.from({ length: 100 }, (_, i) => longName("r", i)),
    approvals: Array.from({ length: MAX_APPROVALS - 3 }, (_, i) => ({
      gate: GATES[i % 10] as string,
      by: `${i} ${text(250)}`,
      reason: text(256),
      at,
    })),
  };
  return full;
}

const legal = (change: (draft: Draft) => void): ModelDeploymentSpec => specOf("2.0.0", change);

it("whatever is asked for, the status that follows can be written", () => {
  const verdicts = { refused: 0, invalid: 0, reduced: 0 };
  fc.assert(
    fc.property(
      spec,
      templates,
      odd,
      fc.boolean(),
      fc.array(op, { minLength: 1, maxLength: 25 }),
      (change, given, unit, isFull, ops) => {
        const world = new World(specOf("1.0.0", change));
        const use = (list: readonly AnalysisTemplateSpec[]) =>
          list.forEach((one, i) => {
            world.templates.set(TEMPLATES[i] as string, one);
          });
        use(given);
        world.pass();
        world.pass();
        world.pass();
        world.update(legal(change));
        for (let i = 0; i < 4; i++) world.pass();
        if (isFull) world.status = fullStatus(world.status, unit);
        const look = () => {
          for (let i = 0; i < 3; i++) world.pass();
          world.now += 1_000;
          world.pass();
        };
        look();
        for (const step of ops) {
          const candidate = world.status.candidate?.revision ?? "";
          switch (step.op) {
            case "command": {
              const { revision } = step.command;
              const asked = { ...step.command, revision: revision === "CANDIDATE" ? candidate : revision };
              world.command = parseCommand(JSON.stringify(asked));
              break;
            }
            case "edit":
              world.update(legal(step.change));
              break;
            case "templates":
              use(step.templates);
              break;
            case "measure": {
              const { error } = step;
              world.measure = () => (error === undefined ? { value: 0.25 } : { error });
              break;
            }
            case "deviate": {
              const pods = world.pods.get(candidate);
              if (pods !== undefined) pods.deviation = step.what;
              break;
            }
            case "owners":
              for (let i = 0; i < step.count; i++)
                world.owners.set(SYMBOL(i), i % 20 < 8 ? world.status.stable?.revision : `r-old-${i % 20}`);
          }
          look();
          if (world.status.lastVerb?.result.startsWith("refused") === true) verdicts.refused += 1;
          if (world.status.phase === "Degraded") verdicts.invalid += 1;
          if (isFull && world.status.history?.some(({ message }) => message === undefined) === true)
            verdicts.reduced += 1;
        }
      },
    ),
    { numRuns: Number(process.env["RUNS"] ?? 60) },
  );
  // It has been where it hurts.
  for (const count of Object.values(verdicts)) expect(count).toBeGreaterThan(0);
}, 600_000);

it("a status from before that is longer than we would write is no matter either", () => {
  const world = new World(specOf("1.0.0")).begin();
  world.update(specOf("2.0.0"));
  world.settle();
  world.status = fullStatus(world.status, "\u0001");
  const { decision, condemned } = world.status;
  world.pass();
  assertWritable(world.status);
  // What it goes by is as it was.
  expect(world.status).toMatchObject({ condemned, ...(decision && { decision }) });
  expect(world.status.history).toHaveLength(100);
  expect(world.status.approvals).toHaveLength(MAX_APPROVALS - 3);
});
