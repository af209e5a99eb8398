import { Environment } from "@marcbachmann/cel-js";

// CEL as the API server knows it, as far as our rules and the conditions of metrics use it.

/** Limits of an expression: those of people come from the cluster. */
const LIMITS = { maxAstNodes: 1_000, maxDepth: 50, maxListElements: 100, maxMapEntries: 100 };

const sorted = (list: readonly (bigint | number | string)[]) =>
  list.every((item, i) => i === 0 || (list[i - 1] as typeof item) <= item);

const rules = new Environment({ unlistedVariablesAreDyn: true, limits: LIMITS })
  .registerVariable("self", "dyn")
  .registerFunction("list.isSorted(): bool", sorted);
const conditions = new Environment({ limits: LIMITS })
  .registerVariable("result", "double")
  .registerVariable("baseline", "double")
  .registerFunction("isNaN(double): bool", (value: number) => Number.isNaN(value));

/** The rules are those of our schemas: a fixed number, each used in every pass. */
const parsedRules = new Map<string, ReturnType<typeof rules.parse>>();

/** Whether a rule holds of a value. Throws where it cannot be evaluated. */
export function ruleHolds(rule: string, self: unknown): boolean {
  let parsed = parsedRules.get(rule);
  if (parsed === undefined) {
    parsed = rules.parse(rule);
    parsedRules.set(rule, parsed);
  }
  return parsed({ self }) === true;
}

/** Whether a metric's condition holds. Throws where it is no expression over `result` and `baseline`. */
export function conditionHolds(condition: string, result: number, baseline: number): boolean {
  const holds: unknown = conditions.evaluate(condition, { result, baseline });
  if (typeof holds !== "boolean") throw new Error(`${condition}: neither true nor false`);
  return holds;
}

/** What is wrong with a condition; undefined when nothing is. */
export function conditionProblem(condition: string): string | undefined {
  try {
    const { valid, type, error } = conditions.check(condition);
    if (!valid) return firstLine(error?.message ?? "not an expression");
    return type === "bool" || type === "dyn" ? undefined : `yields ${String(type)}, not true or false`;
  } catch (error) {
    return firstLine((error as Error).message);
  }
}

/** The sentence of an error, without the picture of the expression below it. */
export function firstLine(message: string): string {
  return message.split("\n", 1)[0] ?? "";
}
