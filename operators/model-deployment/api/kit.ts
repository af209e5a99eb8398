import * as z from "zod";

// Building blocks of the schemas: what a Kubernetes API needs besides types. Everything has a bound, for the cost of
// validation rules is estimated from the bounds.

/** A rule in CEL about the value that it is attached to, as `self` (https://kubernetes.io/docs/reference/using-api/cel). */
export interface Rule {
  readonly rule: string;
  /** Says what is wrong and what to do. */
  readonly message: string;
}

/** Attaches rules to a schema. */
export function withRules<T extends z.ZodType>(schema: T, ...rules: readonly Rule[]): T {
  return schema.meta({ ...schema.meta(), "x-kubernetes-validations": rules });
}

/** Attaches rules to a schema that may have some. */
function addRules<T extends z.ZodType>(schema: T, ...rules: readonly Rule[]): T {
  const before = schema.meta()?.["x-kubernetes-validations"] as readonly Rule[] | undefined;
  return withRules(schema, ...(before ?? []), ...rules);
}

/** A list whose entries have a name: server-side apply merges them by it, and no two may share one. */
export function listByKey<T extends z.ZodType>(entry: T, key: string, max: number) {
  return z
    .array(entry)
    .max(max)
    .meta({ "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key] });
}

export const listOfNames = (max: number, name: z.ZodString) =>
  z.array(name).max(max).meta({ "x-kubernetes-list-type": "set" });

/** Name of an object in the same namespace. */
export const objectName = z
  .string()
  .max(63)
  .regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/);

// What has the pattern but breaks the rules can still be read: the operator says what is wrong with an object that was
// stored before a rule was there, and does not stop at it.

/** Each unit once, from days to milliseconds, as in PromQL; so many digits that nothing becomes longer than five years. */
const DURATION_TEXT = "^([0-9]{1,3}d)?([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?([0-9]{1,9}ms)?$";
const DURATION: Rule = {
  rule: `self.matches('${DURATION_TEXT}')`,
  message:
    "a duration is such as 90s or 1d12h: each unit once, in the order d, h, m, s, ms, up to 999d9999h99999m999999s",
};
const ABOVE_ZERO: Rule = { rule: "self.matches('[1-9]')", message: "is more than 0s" };
const durationText = z
  .string()
  .max(20)
  .regex(/^([0-9]+(ms|s|m|h|d))+$/);

/** A duration as PromQL writes it, from milliseconds to days, one unit or several. */
export const duration = withRules(durationText, DURATION);
/** One that takes any time at all. */
export const positiveDuration = withRules(durationText, DURATION, ABOVE_ZERO);
/** One of a second or more. */
export const secondsDuration = withRules(durationText, DURATION, {
  rule: "self.matches('[1-9][0-9]*(d|h|s|m([0-9]|$))|[1-9][0-9]{3,}ms')",
  message: "is at least 1s",
});

const MONTH_DAY =
  "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))";
const LEAP_YEAR = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)";
const TIME = `^([0-9]{4}-${MONTH_DAY}|${LEAP_YEAR}-02-29)T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$`;

/** A moment that there is, in UTC and whole seconds: no 30th of February, which would be read as the 2nd of March. */
export const moment = withRules(z.string().max(40), {
  rule: `self.matches('${TIME}')`,
  message: "from and to are times such as 2026-01-31T20:00:00Z, of a day and an hour that there are",
});

const MOMENT = new RegExp(TIME);

/** Milliseconds since 1970 of a moment; undefined where there is no such moment. */
export function momentMs(text: string): number | undefined {
  return MOMENT.test(text) ? Date.parse(text) : undefined;
}

export const symbol = z
  .string()
  .max(32)
  .regex(/^[A-Z0-9][A-Z0-9._-]*$/);

export const digest = z
  .string()
  .max(71)
  .regex(/^sha256:[0-9a-f]{64}$/);

/** A number written as text, for floats have no place in a Kubernetes API. */
export const decimal = z
  .string()
  .max(24)
  .regex(/^-?[0-9]+(\.[0-9]+)?$/);

/** An amount of a resource as Kubernetes writes it. */
export const quantity = z
  .string()
  .max(24)
  .regex(/^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$/);
const resourceList = z.strictObject({ cpu: quantity.optional(), memory: quantity.optional() });
/** What a container is given. */
export const resources = z.strictObject({
  requests: resourceList.optional(),
  limits: resourceList.optional(),
});

export const int = (min: number, max: number) => z.int().min(min).max(max);

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** What was stored before durations had a bound is no longer than this: a time that far ahead can still be written. */
const MAX_MS = 36_500 * 86_400_000;

/** Milliseconds of a duration that the schema has accepted; at most a hundred years. */
export function milliseconds(text: string): number {
  let sum = 0;
  for (const [, count = "", unit = ""] of text.matchAll(/([0-9]+)(ms|s|m|h|d)/g)) {
    sum += Number(count) * (UNITS[unit] ?? 0);
  }
  return Math.min(sum, MAX_MS);
}

/** Names that are filled in in a text of a template. */
export const NAMES = ["revision", "namespace", "deployment", "window"] as const;
const NAME = `(${NAMES.join("|")}|args[.][a-z][a-zA-Z0-9]*)`;

/** A text in which names are filled in, and nothing else stands in two braces. */
export const withNames = <T extends z.ZodType>(schema: T): T =>
  addRules(schema, {
    // As short as it can be: the API server estimates what it costs by its length. A brace alone stands for itself.
    rule: `self.matches('^([^{]|{[^{]|{?{{ *${NAME} *}})*{?$')`,
    message: `what stands in two braces is none of ${NAMES.join(", ")} and args.name (an argument begins with a small letter; letters and digits)`,
  });

/** An address of http that may be shown to anybody. */
export const withoutUser = <T extends z.ZodType>(schema: T): T =>
  addRules(schema, {
    rule: "self.matches('^(https?://[^/?#@]+([/?#]|$)|[{][{])')",
    message: "an address begins with http:// or https:// and holds no user and password",
  });

/** Milliseconds of a text; undefined where it is no duration that an object may have. */
export function durationMs(text: string): number | undefined {
  return text !== "" && new RegExp(DURATION_TEXT).test(text) ? milliseconds(text) : undefined;
}

/** A label of Kubernetes, or an annotation, with bounds. */
export const stringMap = (maxKeys: number, maxValue: number) =>
  z.record(z.string(), z.string().max(maxValue)).meta({ maxProperties: maxKeys });
