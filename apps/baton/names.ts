import leven from "leven";
import { UsageError } from "./usage.ts";

// What is said of a name that nothing has.

/** Most names that are listed. */
const LISTED = 8;

/** A name that a person gave, fit to be shown: no longer than a line, and without what a terminal would obey. */
export function shown(name: string): string {
  return /^[\x21-\x7e]{1,80}$/.test(name) ? name : JSON.stringify(name.slice(0, 80));
}

/**
 * The refusal of a name: the nearest one that there is, and what there is, nearest first.
 *
 * @param what the kind of thing, such as `instrument`
 */
export function noSuch(what: string, name: string, known: Iterable<string>): UsageError {
  const same = name.toLowerCase();
  const all = [...new Set(known)]
    .map((one) => ({ one, distance: leven(same, one.toLowerCase()) }))
    .toSorted((a, b) => a.distance - b.distance || (a.one < b.one ? -1 : 1));
  const [nearest] = all;
  if (nearest === undefined) return new UsageError(`no such ${what} ${shown(name)}; there is none`);
  const guess =
    nearest.distance <= Math.max(1, Math.floor(name.length / 3)) ? `; did you mean ${nearest.one}?` : "";
  const listed = all.slice(0, LISTED).map(({ one }) => one);
  const more = all.length > LISTED ? ` and ${all.length - LISTED} more` : "";
  return new UsageError(`no such ${what} ${shown(name)}; known: ${listed.join(", ")}${more}${guess}`);
}
