import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import type * as z from "zod";

const root = join(import.meta.dirname, "..");

/** Reads a file of the repository. Throws with a line for each field that is wrong. */
export function readYaml<T>(schema: z.ZodType<T>, path: string): T {
  const parsed = schema.safeParse(parse(readFileSync(join(root, path), "utf8")));
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => `  ${issue.path.join(".")}: ${issue.message}`);
  throw new Error(`${path} is wrong:\n${problems.join("\n")}`);
}
