import type * as z from "zod";
import type { AnalysisTemplateSpec } from "./analysis.ts";
import { firstLine, ruleHolds } from "./cel.ts";
import { GROUP, KINDS, structural, VERSION } from "./crd.ts";
import type { Rule } from "./kit.ts";
import type { ModelDeploymentSpec } from "./model-deployment.ts";
import { textProblems, usageProblems } from "./texts.ts";

// The cluster's own checks without a cluster: the same schema, the same rules.

export interface Problem {
  /** Path of the field, such as spec.strategy.canary.steps[0]. */
  readonly field: string;
  readonly message: string;
}

interface Schema {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly "x-kubernetes-validations"?: readonly Rule[];
  readonly "x-kubernetes-list-map-keys"?: readonly string[];
  readonly "x-kubernetes-list-type"?: string;
}

const schemas = new Map(KINDS.map((kind) => [kind.kind, structural(kind.spec) as Schema]));

/** The problems of a spec of a kind; none when the API server would take it. */
export function specProblems(kind: string, spec: unknown): readonly Problem[] {
  const known = KINDS.find((entry) => entry.kind === kind);
  if (known === undefined) {
    return [{ field: "kind", message: `${kind} is none of ${KINDS.map((entry) => entry.kind).join(", ")}` }];
  }
  const parsed = known.spec.safeParse(spec);
  if (!parsed.success) return parsed.error.issues.map((issue) => schemaProblem(issue));
  return ruleProblems(kind, parsed.data);
}

/**
 * What is wrong with a spec that its schema has accepted: the rules that it breaks; and, where it breaks none, what the API
 * server cannot check in its texts.
 */
export function ruleProblems(kind: string, spec: unknown): readonly Problem[] {
  const problems: Problem[] = [];
  checkRules(schemas.get(kind) ?? {}, spec, "spec", problems);
  return problems.length > 0 ? problems : textProblems(kind, spec);
}

/** The problems of an object as it stands in a file. */
export function objectProblems(object: unknown): readonly Problem[] {
  if (typeof object !== "object" || object === null) return [{ field: "", message: "not an object" }];
  const { apiVersion, kind, metadata, spec } = object as Record<string, unknown>;
  const wanted = `${GROUP}/${VERSION}`;
  if (apiVersion !== wanted)
    return [{ field: "apiVersion", message: `${String(apiVersion)}, not ${wanted}` }];
  const name = (metadata as { name?: unknown } | undefined)?.name;
  if (typeof name !== "string" || name === "") return [{ field: "metadata.name", message: "is missing" }];
  const { nameLength = Infinity } = KINDS.find((entry) => entry.kind === kind) ?? {};
  const long = { field: "metadata.name", message: `may not be longer than ${nameLength} characters` };
  return [...(name.length > nameLength ? [long] : []), ...specProblems(String(kind), spec)];
}

/** The problems of objects that are applied together, of each: how they use each other as well. */
export function problemsTogether(objects: readonly unknown[]): readonly (readonly Problem[])[] {
  const alone = objects.map(objectProblems);
  const good = objects.map((object, i) => (alone[i]?.length === 0 ? parsedOf(object) : undefined));
  const templates = new Map<string, AnalysisTemplateSpec>();
  for (const each of good)
    if (each?.kind === "AnalysisTemplate") templates.set(each.key, each.spec as AnalysisTemplateSpec);
  return objects.map((_, i) => {
    const { kind, namespace, spec } = good[i] ?? {};
    if (kind !== "ModelDeployment") return alone[i] ?? [];
    const inNamespace = new Map(
      [...templates].flatMap(([key, template]) =>
        key.startsWith(`${namespace}/`) ? [[key.slice(`${namespace}/`.length), template] as const] : [],
      ),
    );
    return usageProblems(spec as ModelDeploymentSpec, inNamespace);
  });
}

/** An object that has no problems, with what its spec leaves out. */
function parsedOf(object: unknown) {
  const { kind, metadata, spec } = object as {
    kind: string;
    metadata: { name: string; namespace?: string };
    spec: unknown;
  };
  const { name, namespace = "" } = metadata;
  const known = KINDS.find((entry) => entry.kind === kind);
  return { kind, namespace, key: `${namespace}/${name}`, spec: known?.spec.parse(spec) };
}

function schemaProblem({ path, message }: z.core.$ZodIssue): Problem {
  return { field: path.reduce<string>((text, part) => at(text, part), "spec"), message };
}

const at = (path: string, part: PropertyKey): string =>
  typeof part === "number" ? `${path}[${part}]` : `${path}.${String(part)}`;

function checkRules(schema: Schema, value: unknown, field: string, problems: Problem[]): void {
  if (value === undefined) return;
  for (const { rule, message } of schema["x-kubernetes-validations"] ?? []) {
    // What compares with the object as it was has nothing to compare with here.
    if (rule.includes("oldSelf")) continue;
    const broken = ruleBroken(rule, celValue(schema, value));
    if (broken !== undefined) problems.push({ field, message: `${message}${broken}` });
  }
  if (Array.isArray(value)) {
    checkKeys(schema, value, field, problems);
    for (const [i, entry] of value.entries()) checkRules(schema.items ?? {}, entry, at(field, i), problems);
  } else if (typeof value === "object" && value !== null) {
    for (const [name, entry] of Object.entries(value)) {
      checkRules(schema.properties?.[name] ?? {}, entry, at(field, name), problems);
    }
  }
}

function checkKeys(schema: Schema, list: readonly unknown[], field: string, problems: Problem[]): void {
  const keys = schema["x-kubernetes-list-map-keys"];
  if (keys === undefined && schema["x-kubernetes-list-type"] !== "set") return;
  const seen = new Set<string>();
  list.forEach((entry, i) => {
    const key = JSON.stringify(
      keys === undefined ? entry : keys.map((name) => (entry as Record<string, unknown>)[name]),
    );
    if (seen.has(key)) problems.push({ field: at(field, i), message: `${key} is there twice` });
    seen.add(key);
  });
}

/** A value with the types that CEL gives it: whole numbers apart from others, nothing that is absent. */
function celValue(schema: Schema, value: unknown): unknown {
  if (Array.isArray(value)) return value.map((entry) => celValue(schema.items ?? {}, entry));
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value).filter(([, entry]) => entry !== undefined);
    return Object.fromEntries(
      entries.map(([name, entry]) => [name, celValue(schema.properties?.[name] ?? {}, entry)]),
    );
  }
  return typeof value === "number" && schema.type === "integer" ? BigInt(value) : value;
}

/** undefined where a rule holds, else what there is to add to its message. One that cannot be evaluated does not hold. */
function ruleBroken(rule: string, self: unknown): string | undefined {
  try {
    return ruleHolds(rule, self) ? undefined : "";
  } catch (error) {
    return ` (${firstLine((error as Error).message)})`;
  }
}
