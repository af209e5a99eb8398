import * as z from "zod";
import { templateRef } from "./analysis.ts";
import {
  decimal,
  digest,
  duration,
  int,
  listByKey,
  listOfNames,
  objectName,
  symbol,
  withRules,
} from "./kit.ts";
import { podTemplate } from "./template.ts";

// ModelDeployment: which model is to decide, on what, and how a new one comes in.

export const TIERS = ["low", "medium", "high"] as const;
export type Tier = (typeof TIERS)[number];
const tier = z.enum(TIERS).describe("By traded volume.");

const name64 = z.string().min(1).max(64);

const model = z.strictObject({
  name: name64.describe("Name of the model."),
  version: name64.describe("Version, for people."),
  uri: z.url().max(1024).describe("Address of the model's manifest."),
  digest: digest.describe(
    "Digest of the model's manifest: what is really meant, whatever the address serves.",
  ),
  format: z.enum(["onnx"]).default("onnx"),
  featureView: z.strictObject({ name: name64, version: name64 }).optional(),
});

export const instrument = withRules(
  z.strictObject({
    symbol: symbol.describe("As in the messages' keys."),
    tier,
    volumeShare: decimal
      .optional()
      .describe("Share of the traded volume, 0 to 1. Without it instruments count alike."),
  }),
  {
    rule: "!has(self.volumeShare) || !self.volumeShare.startsWith('-')",
    message: "volumeShare is not below 0",
  },
);

const setInstruments = withRules(
  z.strictObject({
    symbols: listOfNames(50, symbol).min(1).optional().describe("These."),
    tier: tier.optional().describe("All of a tier."),
    volumeShare: decimal
      .optional()
      .describe("As many, least volume first, as make up this share of the volume, 0 to 1."),
    all: z.literal(true).optional().describe("All, and what has no name here."),
  }),
  {
    rule: "[has(self.symbols), has(self.tier), has(self.volumeShare), has(self.all)].filter(x, x).size() == 1",
    message: "say exactly one of symbols, tier, volumeShare and all",
  },
  {
    rule: "!has(self.volumeShare) || (double(self.volumeShare) > 0.0 && double(self.volumeShare) <= 1.0)",
    message: "volumeShare is above 0 and at most 1",
  },
);

const KEYS = ["setInstruments", "setWeight", "pause", "analysis", "setCanaryScale"];

export const step = withRules(
  z.strictObject({
    setInstruments: setInstruments
      .optional()
      .describe("Hands these over to the candidate, besides what it has already."),
    setWeight: int(1, 100)
      .optional()
      .describe(
        "Percent of the volume for the candidate; for a stream it is mapped to instruments, in status.",
      ),
    pause: z
      .strictObject({
        duration: duration.optional().describe("Without one until somebody promotes."),
      })
      .optional(),
    analysis: z
      .strictObject({ templates: listByKey(templateRef, "name", 10).min(1) })
      .optional()
      .describe("Passes when every metric has its count of measurements and none failed."),
    setCanaryScale: z
      .strictObject({ replicas: int(1, 1000) })
      .optional()
      .describe("Replicas of the candidate from here on."),
  }),
  {
    rule: `[${KEYS.map((key) => `has(self.${key})`).join(", ")}].filter(x, x).size() == 1`,
    message: `a step has exactly one of ${KEYS.join(", ")}`,
  },
);

const canary = withRules(
  z.strictObject({
    steps: z
      .array(step)
      .max(20)
      .optional()
      .describe(
        "Without them: BTCUSDT for 1 h, then the instruments of low, medium and all volume, 1 h each, with analysis in the background.",
      ),
  }),
  {
    rule: "!has(self.steps) || self.steps.all(s, !has(s.setWeight)) || self.steps.all(s, !has(s.setInstruments))",
    message: "steps use setInstruments or setWeight, not both",
  },
  {
    rule: "!has(self.steps) || self.steps.size() == 0 || self.steps.exists(s, has(s.setInstruments) || has(s.setWeight))",
    message: "steps move nothing: add setInstruments or setWeight",
  },
  {
    rule: "!has(self.steps) || self.steps.filter(s, has(s.setWeight)).map(s, s.setWeight).isSorted()",
    message: "weights do not fall from step to step",
  },
);

const blueGreen = z.strictObject({
  autoPromotionEnabled: z
    .boolean()
    .default(true)
    .describe("Without it the new revision waits for a person to promote it."),
  autoPromotionSeconds: int(0, 604_800)
    .default(0)
    .describe("How long the new revision computes in shadow before everything goes to it."),
  prePromotionAnalysis: z.strictObject({ templates: listByKey(templateRef, "name", 10).min(1) }).optional(),
  postPromotionAnalysis: z.strictObject({ templates: listByKey(templateRef, "name", 10).min(1) }).optional(),
  scaleDownDelaySeconds: int(0, 604_800)
    .default(86_400)
    .describe("How long the old revision stays warm, so that everything can go back to it at once."),
});

const freezeWindow = withRules(
  z.strictObject({ from: z.string().max(40), to: z.string().max(40) }),
  {
    rule: "self.from.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$') && self.to.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$')",
    message: "from and to are times such as 2026-01-31T20:00:00Z",
  },
  { rule: "self.from < self.to", message: "from is before to" },
);

const limit = z.strictObject({
  name: objectName,
  query: z
    .string()
    .min(1)
    .max(4096)
    .describe("PromQL that yields one number; names are filled in as in a template."),
  max: decimal.describe("More than this ends the release at once, without statistics."),
});

const gate = z.strictObject({
  name: objectName,
  before: z
    .enum(["Start", "Promotion"])
    .default("Promotion")
    .describe(
      "What it stands before: the candidate getting anything at all, or the step that gives it everything (its promotion, where no step does).",
    ),
  approvals: int(1, 10).default(1).describe("How many people have to approve."),
});

export const modelDeploymentSpec = withRules(
  z.strictObject({
    model,
    template: podTemplate,
    replicas: int(0, 1000).default(1),
    minReadySeconds: int(0, 3600)
      .default(0)
      .describe("How long a pod has to be ready before it counts as available."),
    progressDeadlineSeconds: int(1, 604_800)
      .default(600)
      .describe("A release that gets no further for so long, pauses apart, is rolled back."),
    revisionHistoryLimit: int(0, 100).default(10),
    paused: z.boolean().default(false).describe("Holds the release where it is."),
    stream: z
      .strictObject({
        topics: listOfNames(
          20,
          z
            .string()
            .max(249)
            .regex(/^[a-zA-Z0-9._-]+$/),
        )
          .min(1)
          .describe("Input topics."),
        name: z
          .string()
          .max(63)
          .regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/)
          .optional()
          .describe(
            "Names the output topic signals.<name>, the ledger and the rest. Default: the object's name. Only one object may have it.",
          ),
        releaseSeconds: int(1, 3600)
          .default(15)
          .describe("An owner that has not let go after this is made to."),
        takeSeconds: int(1, 3600).default(30).describe("What has not been taken over after this goes back."),
      })
      .optional()
      .describe("Without it replicas share the work by their number, and steps say setWeight."),
    instruments: listByKey(instrument, "symbol", 300).optional(),
    instrumentSetRef: z
      .strictObject({ name: objectName })
      .optional()
      .describe("An InstrumentSet in the same namespace, instead of instruments."),
    strategy: withRules(z.strictObject({ canary: canary.optional(), blueGreen: blueGreen.optional() }), {
      rule: "has(self.canary) != has(self.blueGreen)",
      message: "say exactly one of canary and blueGreen",
    }),
    analysis: z
      .strictObject({
        templates: listByKey(templateRef, "name", 10).min(1),
        startingStep: int(0, 19).default(0).describe("Index of the step from which on it runs."),
      })
      .optional()
      .describe("Runs in the background from a step on to the end of the release."),
    rollbackWindow: z
      .strictObject({ revisions: int(1, 100) })
      .optional()
      .describe("Going back to one of the last so many promoted revisions takes no steps."),
    gates: listByKey(gate, "name", 10)
      .optional()
      .describe("A release waits here for people to approve it. Going back needs no approval."),
    freezeWindows: z
      .array(freezeWindow)
      .max(50)
      .optional()
      .describe("No step forward inside; going back is always allowed."),
    limits: listByKey(limit, "name", 10).optional().describe("Hard limits: money and breakers."),
  }),
  {
    rule: "!has(self.stream) || has(self.instruments) != has(self.instrumentSetRef)",
    message: "with a stream say exactly one of instruments and instrumentSetRef",
  },
  {
    rule: "has(self.stream) || !(has(self.instruments) || has(self.instrumentSetRef))",
    message: "instruments mean nothing without stream: add stream, or take them out",
  },
  {
    rule: "has(self.stream) || !has(self.strategy.canary) || (has(self.strategy.canary.steps) && self.strategy.canary.steps.all(s, !has(s.setInstruments)))",
    message: "without stream steps say setWeight: setInstruments needs stream",
  },
  {
    rule: "!has(self.instruments) || !has(self.strategy.canary) || !has(self.strategy.canary.steps) || self.strategy.canary.steps.all(s, !has(s.setInstruments) || !has(s.setInstruments.tier) || self.instruments.exists(i, i.tier == s.setInstruments.tier))",
    message: "a step names a tier that no instrument has",
  },
  {
    rule: "!has(self.instruments) || !has(self.strategy.canary) || !has(self.strategy.canary.steps) || self.strategy.canary.steps.all(s, !has(s.setInstruments) || !has(s.setInstruments.symbols) || s.setInstruments.symbols.all(x, self.instruments.exists(i, i.symbol == x)))",
    message: "a step names a symbol that is not among the instruments",
  },
  {
    rule: "!has(oldSelf.stream) || has(self.stream)",
    message: "stream cannot be taken away: make another ModelDeployment",
  },
);

export const instrumentSetSpec = z.strictObject({
  instruments: listByKey(instrument, "symbol", 500).min(1),
});

export type ModelDeploymentSpec = z.output<typeof modelDeploymentSpec>;
export type Instrument = z.output<typeof instrument>;
export type Gate = z.output<typeof gate>;
export type CanaryStep = z.output<typeof step>;
export type Model = ModelDeploymentSpec["model"];
