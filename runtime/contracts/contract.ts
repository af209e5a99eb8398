import * as z from "zod";

/** Why a record is not a message of the contract that was expected; also a metric label and dead-letter reason. */
export const DECODE_CODES = {
  NULL_VALUE: "the record has no value",
  TOO_LARGE: "the value is larger than a message may be",
  NOT_JSON: "the value is not JSON",
  TOO_DEEP: "the value is nested deeper than any message",
  WRONG_SCHEMA: "the record is of another schema or of a version that this reader does not know",
  INVALID: "a field is missing or out of its range",
} as const;

export type DecodeCode = keyof typeof DECODE_CODES;

export class DecodeError extends Error {
  readonly code: DecodeCode;

  constructor(code: DecodeCode, detail: string) {
    super(`${DECODE_CODES[code]}: ${detail}`);
    this.name = "DecodeError";
    this.code = code;
  }
}

/** Header that names schema and version of a record's value, as `signal/1`. */
export const SCHEMA_HEADER = "baton-schema";

/** Most bytes of a message's JSON. */
export const MAX_MESSAGE_BYTES = 1024 * 1024;
/** Deepest nesting of a message's JSON; ours need 4. */
export const MAX_DEPTH = 16;

/** A message type: its name, its version and the schema from which everything else is made. */
export interface Contract<T> {
  readonly name: string;
  readonly version: number;
  readonly schema: z.ZodType<T>;
  /** `name/version`, the value of the schema header. */
  readonly id: string;
}

export function defineContract<T>(name: string, version: number, schema: z.ZodType<T>): Contract<T> {
  return { name, version, schema, id: `${name}/${version}` };
}

/** The message as a record's value. Throws DecodeError INVALID where it breaks its own contract. */
export function encode<T>(contract: Contract<T>, message: T): Buffer {
  const parsed = contract.schema.safeParse(message);
  if (!parsed.success) throw new DecodeError("INVALID", describe(parsed.error));
  return Buffer.from(JSON.stringify(parsed.data));
}

/**
 * The message in a record's value. `schemaId` is the record's schema header; a record without one is taken at
 * its word. Fields that this version does not know are dropped.
 */
export function decode<T>(contract: Contract<T>, value: Buffer | null, schemaId?: string): T {
  if (value === null) throw new DecodeError("NULL_VALUE", contract.id);
  if (value.length > MAX_MESSAGE_BYTES) throw new DecodeError("TOO_LARGE", `${value.length} bytes`);
  if (schemaId !== undefined && schemaId !== contract.id) {
    throw new DecodeError("WRONG_SCHEMA", `${schemaId.slice(0, 80)} where ${contract.id} is read`);
  }
  const depth = nesting(value);
  if (depth > MAX_DEPTH) throw new DecodeError("TOO_DEEP", `more than ${MAX_DEPTH} levels`);
  let json: unknown;
  try {
    json = JSON.parse(value.toString("utf8"));
  } catch (error) {
    throw new DecodeError("NOT_JSON", error instanceof Error ? error.message.slice(0, 200) : "");
  }
  const parsed = contract.schema.safeParse(json);
  if (!parsed.success) throw new DecodeError("INVALID", describe(parsed.error));
  return parsed.data;
}

/** The first problems of a parse, each with the path of its field. */
export function describe(error: z.ZodError): string {
  const problems = error.issues
    .slice(0, 3)
    .map((issue) => `${issue.path.join(".") || "message"}: ${issue.message}`);
  return problems.join("; ").slice(0, 500);
}

/** Deepest nesting of brackets outside strings; stops counting just past the limit. */
function nesting(value: Buffer): number {
  let depth = 0;
  let deepest = 0;
  let inString = false;
  for (let i = 0; i < value.length; i++) {
    const byte = value[i];
    if (inString) {
      if (byte === 0x5c) i += 1;
      else if (byte === 0x22) inString = false;
    } else if (byte === 0x22) inString = true;
    else if (byte === 0x7b || byte === 0x5b) {
      depth += 1;
      if (depth > deepest) deepest = depth;
      if (deepest > MAX_DEPTH) break;
    } else if (byte === 0x7d || byte === 0x5d) depth -= 1;
  }
  return deepest;
}

/** JSON Schema (2020-12) of a contract, as it is committed. */
export function jsonSchema(contract: Contract<unknown>): Record<string, unknown> {
  return {
    $id: `https://baton.dev/schemas/${contract.name}.v${contract.version}.json`,
    title: contract.id,
    ...z.toJSONSchema(contract.schema, { target: "draft-2020-12", io: "input" }),
  };
}
