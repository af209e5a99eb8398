import * as z from "zod";

/** Exit code for a wrong configuration, from BSD's sysexits: EX_CONFIG. */
export const EXIT_CONFIG = 78;

/** Every problem of a configuration at once. */
export class ConfigError extends Error {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(
      `the configuration is wrong in ${problems.length} place${problems.length === 1 ? "" : "s"}:\n${problems.map((problem) => `  ${problem}`).join("\n")}`,
    );
    this.name = "ConfigError";
    this.problems = problems;
  }
}

type Env = Readonly<Record<string, string | undefined>>;

/**
 * Parses environment variables. An empty variable counts as absent. Throws ConfigError that names each wrong
 * variable, what is wrong with it and, unless its name says that it is secret, its value.
 */
export function parseEnv<T extends z.ZodRawShape>(shape: T, env: Env = process.env): z.infer<z.ZodObject<T>> {
  const given = Object.fromEntries(
    Object.keys(shape).map((key) => [key, env[key] === "" ? undefined : env[key]]),
  );
  const parsed = z.object(shape).safeParse(given);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => {
    const key = String(issue.path[0]);
    const value = given[key];
    if (value === undefined) return `${key}: not set${described(shape[key])}`;
    return `${key}: ${issue.message} (is ${isSecret(key) ? "hidden" : JSON.stringify(value.slice(0, 100))})`;
  });
  throw new ConfigError(problems);
}

/** Every variable with what it is and its default, a line each. */
export function describeEnv(shape: z.ZodRawShape): string {
  const names = Object.keys(shape);
  const width = Math.max(0, ...names.map((name) => name.length));
  return names
    .map((name) => {
      const schema = shape[name];
      const optional = schema instanceof z.ZodType && schema.safeParse(undefined).success;
      const value = optional ? schema.parse(undefined) : undefined;
      const standard = optional ? (value === undefined ? " (optional)" : ` (default ${String(value)})`) : "";
      return `  ${name.padEnd(width)}  ${describe(schema) ?? ""}${standard}`;
    })
    .join("\n");
}

/** A default stands around what was described. */
function describe(schema: unknown): string | undefined {
  if (!(schema instanceof z.ZodType)) return undefined;
  if (schema.description !== undefined) return schema.description;
  return schema instanceof z.ZodDefault || schema instanceof z.ZodOptional
    ? describe(schema.unwrap())
    : undefined;
}

function described(schema: unknown): string {
  const text = describe(schema);
  return text === undefined ? "" : `; it is ${text}`;
}

function isSecret(key: string): boolean {
  return /PASSWORD|SECRET|TOKEN|KEY|CREDENTIAL|_URL$/.test(key);
}

/** Kinds of variables that several services have. */
export const kinds = {
  /** Comma-separated, none empty. */
  list: (what: string) =>
    z
      .string()
      .transform((text) => text.split(",").map((part) => part.trim()))
      .refine((parts) => parts.every((part) => part !== ""), "an entry is empty")
      .describe(what),
  integer: (what: string, min: number, max: number) =>
    z
      .string()
      .regex(/^-?\d+$/, "not a whole number")
      .transform(Number)
      .refine((value) => value >= min && value <= max, `not between ${min} and ${max}`)
      .describe(what),
  number: (what: string, min: number, max: number) =>
    z
      .string()
      .regex(/^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?$/i, "not a number")
      .transform(Number)
      .refine((value) => Number.isFinite(value), "not a number")
      .refine((value) => value >= min && value <= max, `not between ${min} and ${max}`)
      .describe(what),
  boolean: (what: string) =>
    z
      .enum(["true", "false"], "not true or false")
      .transform((text) => text === "true")
      .describe(what),
  digest: (what: string) =>
    z
      .string()
      .regex(/^sha256:[0-9a-f]{64}$/, "not sha256: and 64 hexadecimal digits")
      .describe(what),
};
