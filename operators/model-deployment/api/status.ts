import * as z from "zod";
import { int, listByKey } from "./kit.ts";

// What the operator says of a ModelDeployment. People and scripts read it; the operator itself counts time from its
// timestamps and takes its one-way decisions from it.

const time = z.string().max(40).meta({ format: "date-time" });

/** Texts for people: what is too long is cut. All other strings identify something and are never changed. */
export const TEXTS = z.registry<{ readonly cut: true }>();
const text = (max: number) => z.string().max(max).register(TEXTS, { cut: true });

export const PHASES = ["Pending", "Progressing", "Paused", "Healthy", "Degraded"] as const;
export type Phase = (typeof PHASES)[number];

const condition = z.object({
  type: z.string().max(63),
  status: z.enum(["True", "False", "Unknown"]),
  reason: z.string().max(128),
  message: text(2048),
  lastTransitionTime: time,
  observedGeneration: z.int().optional(),
});

const revision = z.object({
  revision: z.string().max(63).describe("Name of the revision."),
  version: z.string().max(64).describe("Version of its model."),
  digest: z.string().max(71),
  replicas: z.int(),
  available: z.int(),
  coherent: z.boolean().describe("Every replica reports the digest and configuration that it should."),
});

/** What a release has come to; once written it is acted on and never taken back. */
const decision = z.object({
  kind: z.enum(["Promote", "Rollback", "Abort", "Supersede"]),
  revision: z.string().max(63).describe("The candidate that it is about."),
  reason: z.string().max(128),
  message: text(1024),
  at: time,
});

const measurement = z.object({
  at: time,
  verdict: z.enum(["Success", "Failure", "Inconclusive", "Error"]),
  value: z.string().max(64).optional(),
  baseline: z.string().max(64).optional(),
  message: text(256).optional(),
  reason: z
    .enum(["SharedCause"])
    .optional()
    .describe("SharedCause: stable breaks the same bound; neither failure nor success."),
});

/** Metrics that can be measured at once. */
export const MAX_METRICS = 60;

const metricStatus = z.object({
  name: z.string().max(160).describe("scope/template/metric, scope is background or step-N; or limit/name."),
  startedAt: time,
  phase: z.enum(["Running", "Successful", "Failed", "Inconclusive"]),
  successes: z.int(),
  failures: z.int(),
  inconclusive: z.int().describe("In a row."),
  errors: z.int().describe("In a row."),
  measurements: z.array(measurement).max(5).describe("The last ones."),
  metricHash: z
    .string()
    .max(64)
    .optional()
    .describe("Hash of the metric as it is measured: when it is edited it is measured anew."),
  restarted: z
    .boolean()
    .optional()
    .describe("It was edited during the release, and has not been good once since: the release holds."),
});

const historyEntry = z.object({
  revision: z.string().max(63),
  version: z.string().max(64),
  digest: z.string().max(71),
  completionStatus: z.enum(["Promoted", "FastPromoted", "Aborted", "Superseded", "RolledBack"]),
  reason: z.string().max(128),
  message: text(1024).optional(),
  startedAt: time,
  endedAt: time,
});

/** Notes that are kept. */
export const NOTES = 10;
/** What a person calls themselves: as long as an e-mail address may be. */
export const MAX_NAME = 254;
/** Approvals of a release that are kept: as many as ten gates may need. */
export const MAX_APPROVALS = 100;
/** Revisions that are shown with what they own, and instruments that are shown of each. */
export const MAX_OWNERS = 10;
export const MAX_INSTRUMENTS = 501;
/** Bytes of a status as JSON: an object with all its parts has to fit into 1.5 MB of etcd. */
export const MAX_STATUS_BYTES = 256 * 1024;

const note = z.object({
  id: z.int().describe("Counts the object's notes."),
  at: time,
  type: z.enum(["Normal", "Warning"]),
  reason: z.string().max(128),
  message: text(1024),
});

export const modelDeploymentStatus = z.object({
  phase: z.enum(PHASES).optional(),
  message: text(2048).optional(),
  observedGeneration: z.int().optional(),
  conditions: listByKey(condition, "type", 20).optional(),
  stable: revision.optional(),
  candidate: revision.optional(),
  currentStepIndex: int(0, 50).optional(),
  currentStepHash: z
    .string()
    .max(64)
    .optional()
    .describe(
      "Hash of the steps that the release runs by, with the instruments that each gives, and of its gates: when they are edited the release begins its steps anew.",
    ),
  strategy: z
    .enum(["canary", "blueGreen"])
    .optional()
    .describe("The strategy that the release runs by: another one is a new release of the same revision."),
  editedAt: time
    .optional()
    .describe(
      "When what the release runs by was edited. It gets no more than it has until a pause or an analysis is over, its gates are open, or a person says resume or promote.",
    ),
  stepStartedAt: time.optional(),
  progressedAt: time.optional().describe("When the release last got further; the deadline counts from here."),
  releaseStartedAt: time.optional(),
  pausedAt: time.optional(),
  approvals: z
    .array(
      z.object({
        gate: z.string().max(63),
        by: z.string().max(MAX_NAME).describe("What the person calls themselves."),
        reason: text(256).optional(),
        at: time,
      }),
    )
    .max(MAX_APPROVALS)
    .optional()
    .describe("Who has approved the release that is under way."),
  weight: z
    .int()
    .optional()
    .describe("Percent of the volume that the candidate decides on, from the ledger."),
  assignments: z
    .array(
      z.object({
        revision: z.string().max(63),
        epoch: z.int(),
        instruments: z
          .array(z.string().max(32))
          .max(MAX_INSTRUMENTS)
          .describe("* stands for all that are not named; … for more than fit here."),
      }),
    )
    .max(MAX_OWNERS)
    .optional()
    .describe("Who decides on what, from the ledger."),
  decision: decision.optional(),
  analysis: listByKey(metricStatus, "name", MAX_METRICS).optional(),
  history: z.array(historyEntry).max(100).optional(),
  condemned: z
    .array(z.string().max(63))
    .max(100)
    .optional()
    .describe("Revisions that were rolled back: not tried again unless a person says retry."),
  stableSince: time.optional(),
  previousStable: z
    .object({ revision: z.string().max(63), scaleDownAt: time })
    .optional()
    .describe("The revision that stays warm after a blue/green release."),
  pinned: z
    .object({
      revision: z.string().max(63).describe("What decides instead."),
      instead: z.string().max(63).describe("The revision of the spec that was undone."),
      reason: text(256).optional(),
      at: time,
    })
    .optional()
    .describe(
      "Set by undo: what the spec names is left alone until it names another one, or a person says retry.",
    ),
  restart: z
    .object({ revision: z.string().max(63), at: time })
    .optional()
    .describe("The latest restart that a person has asked for."),
  notes: z
    .array(note)
    .max(NOTES)
    .optional()
    .describe(
      "The last things that happened: what events and notifications are made of, also by the next operator.",
    ),
  published: z.int().optional().describe("Number of the last note that was known to be sent."),
  epoch: z.int().optional().describe("Counts leading operators: who wrote this."),
  lastVerb: z
    .object({ id: z.string().max(63), verb: z.string().max(32), result: text(256), at: time })
    .optional()
    .describe("The latest command of a person, and what became of it."),
  replicas: z
    .int()
    .optional()
    .describe(
      "Replicas that spec.replicas counts, of the pods that the selector finds: what autoscalers see.",
    ),
  selector: z
    .string()
    .max(256)
    .optional()
    .describe(
      "Labels of the pods that do the work once: the stable revision's; during a canary without a stream also the candidate's.",
    ),
});

export type ModelDeploymentStatus = z.output<typeof modelDeploymentStatus>;
export type Condition = z.output<typeof condition>;
export type Decision = z.output<typeof decision>;
export type Measurement = z.output<typeof measurement>;
export type MetricStatus = z.output<typeof metricStatus>;
export type Approval = NonNullable<ModelDeploymentStatus["approvals"]>[number];
export type StatusNote = z.output<typeof note>;
export type HistoryEntry = z.output<typeof historyEntry>;
