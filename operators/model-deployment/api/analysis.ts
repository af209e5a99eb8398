import * as z from "zod";
import {
  decimal,
  duration,
  int,
  listByKey,
  objectName,
  positiveDuration,
  resources,
  secondsDuration,
  withNames,
  withoutUser,
  withRules,
} from "./kit.ts";

// AnalysisTemplate: what is measured, and what counts as harm.

const text = (max: number) => z.string().min(1).max(max);
const argName = z
  .string()
  .max(63)
  .regex(/^[a-z][a-zA-Z0-9]*$/);

const prometheus = z.strictObject({
  address: withoutUser(z.url().max(512))
    .optional()
    .describe("Where its API is, a path before /api/v1 included. Default: the operator's own Prometheus."),
  query: withNames(text(4096)).describe(
    "PromQL that yields one number. {{revision}}, {{namespace}}, {{deployment}}, {{window}} and {{args.name}} are filled in: inside quotes as text, outside them a number, a duration or a name. {{revision}} is the candidate's, and the stable one's for a comparison with the baseline.",
  ),
  samplesQuery: withNames(text(4096))
    .optional()
    .describe("PromQL that yields on how many samples the number rests, for minSamples."),
});

const web = z.strictObject({
  url: withoutUser(withNames(text(1024))).describe(
    "Answered with JSON to GET. The same names are filled in as in a query, percent-encoded after the host.",
  ),
  jsonPath: z
    .string()
    .max(256)
    .regex(/^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$/)
    .describe("Names of fields from the outside in, separated by points, down to a number."),
  timeoutSeconds: int(1, 60).default(10),
});

const job = z.strictObject({
  container: z
    .strictObject({
      image: withNames(text(512)),
      command: z
        .array(withNames(z.string().max(1024)))
        .max(20)
        .optional(),
      args: z
        .array(withNames(z.string().max(1024)))
        .max(50)
        .optional(),
      env: listByKey(
        z.strictObject({
          name: z
            .string()
            .max(128)
            .regex(/^[A-Za-z_][A-Za-z0-9_]*$/),
          value: withNames(z.string().max(1024)),
        }),
        "name",
        30,
      ).optional(),
      resources: resources.optional(),
    })
    .describe(
      "The same names as in a query are filled in in its texts, as they are: a shell is given them by env.",
    ),
  serviceAccountName: objectName.optional().describe("Its token is not mounted."),
  timeoutSeconds: int(1, 3600).default(300).describe("A Job that takes longer is ended, and has failed."),
});

const threshold = withRules(
  z.strictObject({
    max: decimal.optional().describe("More than this is harm."),
    min: decimal.optional().describe("Less than this is harm."),
    maxAboveBaseline: decimal.optional().describe("More than the baseline plus this is harm."),
    minBelowBaseline: decimal.optional().describe("Less than the baseline minus this is harm."),
    maxOfBaseline: decimal.optional().describe("More than the baseline times this is harm."),
    minOfBaseline: decimal.optional().describe("Less than the baseline times this is harm."),
  }),
  {
    rule: "has(self.max) || has(self.min) || has(self.maxAboveBaseline) || has(self.minBelowBaseline) || has(self.maxOfBaseline) || has(self.minOfBaseline)",
    message: "say at least one bound",
  },
);

/** What a metric may say of a candidate that suffers no more than stable does. */
const sharedCause = z.strictObject({
  maxAboveBaseline: decimal.optional().describe("More than the baseline plus this is harm all the same."),
  minBelowBaseline: decimal.optional().describe("Less than the baseline minus this is harm all the same."),
  maxOfBaseline: decimal.optional().describe("More than the baseline times this is harm all the same."),
  minOfBaseline: decimal.optional().describe("Less than the baseline times this is harm all the same."),
});

const NAMES_REVISION = ".matches('[{][{] *revision *[}][}]')";

const CONDITION_HELP =
  "An expression in CEL over `result` (a number) and `baseline` (a number, where it is measured)";

export const metric = withRules(
  z.strictObject({
    name: objectName.describe("Name of the metric, shown in status, events and metrics."),
    interval: secondsDuration.default("60s").describe("Time from one measurement to the next; from 1s."),
    initialDelay: duration.optional().describe("Time before the first measurement."),
    window: positiveDuration.default("60s").describe("Filled in for {{window}} in queries."),
    count: int(1, 10_000)
      .optional()
      .describe("Measurements until the metric is done; without it it runs as long as it is asked for."),
    threshold: threshold.optional(),
    successCondition: text(1024)
      .optional()
      .describe(`${CONDITION_HELP}: a measurement is a success where it holds.`),
    failureCondition: text(1024)
      .optional()
      .describe(`${CONDITION_HELP}: a measurement is a failure where it holds.`),
    sharedCause: sharedCause
      .optional()
      .describe(
        "With it ({} says enough) stable is measured by the same query in the same window. Where its value breaks the same bound (max, min or a condition) the measurement is no failure: the release holds, reason SharedCause, and goes on when it is over. Where stable has no value the bound alone counts.",
      ),
    failureLimit: int(0, 1000).default(0).describe("Failures that are borne; one more rolls back."),
    inconclusiveLimit: int(0, 1000)
      .default(0)
      .describe("Inconclusive measurements in a row that are borne; with more the release holds."),
    consecutiveErrorLimit: int(0, 1000)
      .default(4)
      .describe("Errors in a row that are borne; with more the metric is inconclusive."),
    minSamples: int(1, 1_000_000_000)
      .optional()
      .describe("Fewer samples than this are no evidence: the measurement is inconclusive."),
    provider: withRules(
      z.strictObject({
        prometheus: prometheus.optional(),
        web: web.optional(),
        job: job.optional().describe("A Job: 1 when it ended well, 0 when it did not."),
      }),
      {
        rule: "[has(self.prometheus), has(self.web), has(self.job)].filter(x, x).size() == 1",
        message: "say exactly one of prometheus, web and job",
      },
    ),
  }),
  {
    rule: "has(self.threshold) || has(self.successCondition) || has(self.failureCondition) || has(self.provider.job)",
    message: "say what harm is: threshold, successCondition or failureCondition",
  },
  {
    rule: "!(has(self.threshold) && (has(self.successCondition) || has(self.failureCondition)))",
    message: "say threshold or conditions, not both",
  },
  {
    rule: "!has(self.minSamples) || (has(self.provider.prometheus) && has(self.provider.prometheus.samplesQuery))",
    message: "minSamples needs provider.prometheus.samplesQuery to count them",
  },
  {
    rule: "!has(self.sharedCause) || !has(self.threshold) || has(self.threshold.max) || has(self.threshold.min)",
    message: "sharedCause is about a bound that stable can break too: say threshold.max or threshold.min",
  },
  {
    rule: `!has(self.sharedCause) || (has(self.provider.prometheus) && self.provider.prometheus.query${NAMES_REVISION}) || (has(self.provider.web) && self.provider.web.url${NAMES_REVISION})`,
    message: "sharedCause needs a query or a url with {{revision}}: the two revisions would be the same",
  },
);

const arg = z.strictObject({
  name: argName,
  value: z.string().max(1024).optional().describe("Default; without one whoever uses the template gives it."),
});

export const analysisTemplateSpec = z.strictObject({
  args: listByKey(arg, "name", 20).optional(),
  metrics: listByKey(metric, "name", 20).min(1),
});

/** A template as it is used. */
export const templateRef = z.strictObject({
  name: objectName.describe("Name of an AnalysisTemplate in the same namespace."),
  args: listByKey(z.strictObject({ name: argName, value: z.string().max(1024) }), "name", 20).optional(),
});

export type AnalysisTemplateSpec = z.output<typeof analysisTemplateSpec>;
export type Metric = z.output<typeof metric>;
export type JobProvider = z.output<typeof job>;
export type TemplateRef = z.output<typeof templateRef>;
