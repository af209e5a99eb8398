import * as z from "zod";
import { namesIn } from "../core/names.ts";
import { int, objectName } from "./kit.ts";

// The operator's file about notifications: who is told of what. Addresses with secrets in them come from files.

/** Named as Argo Rollouts names them, where it has the same. */
export const TRIGGERS = {
  "on-rollout-updated": ["Started"],
  "on-rollout-step-completed": ["StepCompleted"],
  "on-rollout-paused": ["Paused"],
  "on-rollout-completed": ["Promoted", "FastPromoted"],
  "on-rollout-aborted": ["Aborted", "RolledBack"],
  "on-rollout-superseded": ["Superseded"],
  "on-analysis-run-failed": ["AnalysisFailed"],
  "on-analysis-run-inconclusive": ["Inconclusive", "SharedCause"],
  "on-deadline-exceeded": ["ProgressDeadlineExceeded"],
  "on-candidate-unavailable": ["CandidateUnavailable"],
  "on-command": ["Command"],
  "on-team-notice": ["TeamNotice"],
} as const satisfies Readonly<Record<string, readonly string[]>>;

export type Trigger = keyof typeof TRIGGERS;
const triggerNames = Object.keys(TRIGGERS) as [Trigger, ...Trigger[]];

/** What is filled in in a template. */
const NAMES = "trigger namespace name reason message phase stable candidate at id".split(" ");

const service = z
  .strictObject({
    name: objectName,
    type: z
      .enum(["slack", "webhook"])
      .describe("slack: a JSON object with `text`; webhook: JSON of your own."),
    url: z.url().max(2048).optional().describe("Where it is sent by POST."),
    urlFile: z.string().min(1).max(512).optional().describe("A file with the address, where it is a secret."),
    template: z
      .string()
      .min(1)
      .max(8192)
      .optional()
      .describe(
        "The text (slack), or the JSON body (webhook). {{trigger}}, {{namespace}}, {{name}}, {{reason}}, {{message}}, {{phase}}, {{stable}}, {{candidate}}, {{at}} and {{id}} are filled in.",
      ),
    attempts: int(1, 20).default(6).describe("How often it is tried, with growing waits between."),
  })
  .superRefine(({ template = "" }, context) => {
    try {
      const unknown = [...namesIn(template)].find((name) => !NAMES.includes(name));
      if (unknown !== undefined) throw new Error(`{{${unknown}}} is none of ${NAMES.join(", ")}`);
    } catch (error) {
      context.addIssue({ code: "custom", message: (error as Error).message, path: ["template"] });
    }
  })
  .refine(({ url, urlFile }) => (url === undefined) !== (urlFile === undefined), {
    message: "say exactly one of url and urlFile",
    path: ["url"],
  });

export const notificationsSchema = z
  .strictObject({
    services: z.array(service).max(20),
    subscriptions: z
      .array(
        z.strictObject({
          triggers: z.array(z.enum(triggerNames)).min(1),
          services: z.array(objectName).min(1),
          namespaces: z.array(objectName).optional().describe("Default: all."),
        }),
      )
      .max(50),
  })
  .superRefine(({ services, subscriptions }, context) => {
    const known = new Set(services.map(({ name }) => name));
    subscriptions.forEach((subscription, i) => {
      for (const name of subscription.services) {
        if (known.has(name)) continue;
        const message = `no service is called ${name}`;
        context.addIssue({ code: "custom", message, path: ["subscriptions", i, "services"] });
      }
    });
  });

export type Notifications = z.output<typeof notificationsSchema>;
export type NotificationService = Notifications["services"][number];
