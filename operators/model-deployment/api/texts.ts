import { fill, fillQuery, fillUrl, type Names, namesIn } from "../core/names.ts";
import type { AnalysisTemplateSpec, Metric, TemplateRef } from "./analysis.ts";
import { conditionProblem } from "./cel.ts";
import { NAMES } from "./kit.ts";
import type { Problem } from "./lint.ts";
import type { ModelDeploymentSpec } from "./model-deployment.ts";

// What is wrong with the texts of a spec: names that nothing is filled in for, values that do not fit where they are to
// stand, conditions that are no expressions. The API server cannot see all of it, for arguments come from another object.

/** As values look; a text that takes these takes the real ones. */
const SAMPLES = { revision: "r-0123456789", namespace: "namespace", deployment: "deployment" };

interface Text {
  readonly field: string;
  readonly text: string;
  readonly fill: (text: string, names: Names) => string;
}

/** Of a spec that breaks no rule of its schema. */
export function textProblems(kind: string, spec: unknown): readonly Problem[] {
  if (kind === "AnalysisTemplate") {
    const template = spec as AnalysisTemplateSpec;
    const args = (template.args ?? []).map(({ name, value }) => [name, value] as const);
    return [...conditionProblems(template), ...templateProblems(template, args)];
  }
  if (kind !== "ModelDeployment") return [];
  return ((spec as ModelDeploymentSpec).limits ?? []).flatMap(({ query }, i) =>
    problemOf({ field: `spec.limits[${i}].query`, text: query, fill: fillQuery }, "60s", []),
  );
}

/** What is wrong with how a spec uses templates; those that are not known are passed over. */
export function usageProblems(
  spec: ModelDeploymentSpec,
  templates: ReadonlyMap<string, AnalysisTemplateSpec>,
): readonly Problem[] {
  return usesOf(spec).flatMap(({ field, ref }) => {
    const template = templates.get(ref.name);
    if (template === undefined) return [];
    const declared = template.args ?? [];
    const given = ref.args ?? [];
    const unknown = given.flatMap(({ name }, i) =>
      declared.some((arg) => arg.name === name)
        ? []
        : [{ field: `${field}.args[${i}].name`, message: `${ref.name} has no argument ${name}` }],
    );
    const values = [...declared, ...given].flatMap(({ name, value }) =>
      value === undefined ? [] : [[name, value] as const],
    );
    return [
      ...unknown,
      ...templateProblems(template, values).map((problem) => ({
        field,
        message: `${ref.name}: ${problem.field}: ${problem.message}`,
      })),
    ];
  });
}

/** Every template that a spec uses, with where it says so. */
export function usesOf({ analysis, strategy }: ModelDeploymentSpec): readonly {
  readonly field: string;
  readonly ref: TemplateRef;
}[] {
  const { canary, blueGreen } = strategy;
  const uses = [
    ["spec.analysis", analysis],
    ["spec.strategy.blueGreen.prePromotionAnalysis", blueGreen?.prePromotionAnalysis],
    ["spec.strategy.blueGreen.postPromotionAnalysis", blueGreen?.postPromotionAnalysis],
    ...(canary?.steps ?? []).map(
      (step, i) => [`spec.strategy.canary.steps[${i}].analysis`, step.analysis] as const,
    ),
  ] as const;
  return uses.flatMap(([field, use]) =>
    (use?.templates ?? []).map((ref, i) => ({ field: `${field}.templates[${i}]`, ref })),
  );
}

/** An argument whose value is undefined is one that whoever uses the template gives. */
type Args = readonly (readonly [name: string, value: string | undefined])[];

function templateProblems({ metrics }: AnalysisTemplateSpec, args: Args): readonly Problem[] {
  return metrics.flatMap((metric, i) =>
    textsOf(metric, `spec.metrics[${i}].provider`).flatMap((text) => problemOf(text, metric.window, args)),
  );
}

function problemOf({ field, text, fill: fillText }: Text, window: string, args: Args): readonly Problem[] {
  const values = Object.fromEntries(args.map(([name, value]) => [`args.${name}`, value]));
  try {
    const known: Readonly<Record<string, string | undefined>> = { ...SAMPLES, window, ...values };
    const wanted = [...namesIn(text)];
    const unknown = wanted.find((name) => !Object.hasOwn(known, name));
    if (unknown !== undefined) {
      const names = [...NAMES, ...Object.keys(values)].join(", ");
      return [{ field, message: `{{${unknown}}} is none of ${names}` }];
    }
    const open = wanted.some((name) => known[name] === undefined);
    if (!open) fillText(text, known as Names);
    return [];
  } catch (error) {
    return [{ field, message: (error as Error).message }];
  }
}

function textsOf({ provider: { prometheus, web, job } }: Metric, field: string): readonly Text[] {
  const { query, samplesQuery } = prometheus ?? {};
  return [
    ...one(`${field}.prometheus.query`, query, fillQuery),
    ...one(`${field}.prometheus.samplesQuery`, samplesQuery, fillQuery),
    ...one(`${field}.web.url`, web?.url, fillUrl),
    ...textsIn(job?.container, `${field}.job.container`),
  ];
}

const one = (field: string, text: string | undefined, fillText: Text["fill"]): readonly Text[] =>
  text === undefined ? [] : [{ field, text, fill: fillText }];

/** Every text in a value. */
function textsIn(value: unknown, field: string): readonly Text[] {
  if (typeof value === "string") return [{ field, text: value, fill }];
  if (Array.isArray(value)) return value.flatMap((entry, i) => textsIn(entry, `${field}[${i}]`));
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, entry]) => textsIn(entry, `${field}.${name}`));
}

function conditionProblems({ metrics }: AnalysisTemplateSpec): readonly Problem[] {
  return metrics.flatMap((metric, i) =>
    (["successCondition", "failureCondition"] as const).flatMap((name) => {
      const condition = metric[name];
      const message = condition === undefined ? undefined : conditionProblem(condition);
      return message === undefined ? [] : [{ field: `spec.metrics[${i}].${name}`, message }];
    }),
  );
}
