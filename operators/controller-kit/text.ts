/** Where something was cut off. */
const MARK = "…";

/**
 * Text of at most `max` UTF-16 code units, which is at least as many characters as a schema counts: what is longer is cut, with
 * a mark. No character is cut in two, and half a character, which no JSON can carry, is replaced.
 */
export function cut(text: string, max: number): string {
  if (text.length <= max) return text.isWellFormed() ? text : text.toWellFormed();
  const end = max - MARK.length;
  const isSplit = isHighSurrogate(text.charCodeAt(end - 1));
  return `${text.slice(0, isSplit ? end - 1 : end).toWellFormed()}${MARK}`;
}

function isHighSurrogate(code: number): boolean {
  return code >= 0xd800 && code <= 0xdbff;
}
