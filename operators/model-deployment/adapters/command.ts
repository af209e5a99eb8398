import { createHash } from "node:crypto";
import * as z from "zod";
import { cut } from "#operators/controller-kit/text.ts";
import { MAX_NAME } from "../api/status.ts";
import { type Command, type Unreadable, VERBS } from "../core/observed.ts";

// Commands of people, who can write whatever they like into an annotation.

/** More than any command can be. */
const MAX_LENGTH = 8_192;
const MAX_REASON = 256;

/** No control character, and no half of a character. */
const isPlain = (text: string) => text.isWellFormed() && !/\p{Cc}/u.test(text);
const name = (max: number) => z.string().max(max).refine(isPlain, "has characters that cannot be shown");
/** For people only: as much of it as there is room for. Nobody is to be refused an abort for it. */
const reason = z.string().transform((text) => cut(text.replaceAll(/\p{Cc}+/gu, " "), MAX_REASON));
/** One person has one name, however it was typed. */
const person = z
  .string()
  .transform((text) => text.trim().normalize("NFC"))
  .pipe(name(MAX_NAME).min(1));

const common = {
  id: name(63).min(1),
  revision: name(63),
  reason: reason.optional(),
  notify: z.boolean().optional(),
};
const others = VERBS.filter((verb) => verb !== "undo" && verb !== "approve");
const commandSchema = z.discriminatedUnion("verb", [
  z.object({ verb: z.literal("undo"), ...common, to: name(63).optional() }),
  z.object({ verb: z.literal("approve"), ...common, gate: name(63).optional(), by: person.optional() }),
  z.object({ verb: z.enum(others), ...common }),
]);

/** What a person asks for. What cannot be read is answered once, with what is wrong with it. */
export function parseCommand(text: string | undefined): Command | Unreadable | undefined {
  if (text === undefined) return undefined;
  if (text.length > MAX_LENGTH) return unreadable(text, {}, `it has more than ${MAX_LENGTH} characters`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return unreadable(text, {}, "it is no JSON");
  }
  const parsed = commandSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const field = issue?.path.join(".") ?? "";
  return unreadable(
    text,
    json,
    `${field === "" ? "" : `${field}: `}${issue?.message ?? "it cannot be read"}`,
  );
}

/** Answered by the id that it has, or by one that is made of what it says. */
function unreadable(text: string, json: unknown, problem: string): Unreadable {
  const { id, verb } = (typeof json === "object" && json !== null ? json : {}) as Record<string, unknown>;
  const known = common.id.safeParse(id);
  const hash = createHash("sha256").update(text).digest("hex").slice(0, 16);
  const said = name(32).min(1).safeParse(verb);
  return {
    id: known.success ? known.data : `unreadable-${hash}`,
    verb: said.success ? said.data : "unknown",
    problem,
  };
}
