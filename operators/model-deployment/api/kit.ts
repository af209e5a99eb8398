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

/** A duration as Prometheus and Go write it, from milliseconds to days, one unit or several. */
export const duration = z
  .string()
  .max(20)
  .regex(/^([0-9]+(ms|s|m|h|d))+$/);

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

/** Milliseconds of a duration that the schema has accepted. */
export function milliseconds(text: string): number {
  let sum = 0;
  for (const [, count = "", unit = ""] of text.matchAll(/([0-9]+)(ms|s|m|h|d)/g)) {
    sum += Number(count) * (UNITS[unit] ?? 0);
  }
  return sum;
}

/** A label of Kubernetes, or an annotation, with bounds. */
export const stringMap = (maxKeys: number, maxValue: number) =>
  z.record(z.string(), z.string().max(maxValue)).meta({ maxProperties: maxKeys });
