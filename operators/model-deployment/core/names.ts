// Names in texts that users write: queries, addresses, messages. What is filled in for one is a value, and never becomes a
// part of the text's grammar: a query cannot be changed by an argument.

export type Names = Readonly<Record<string, string>>;

/** Anything in two braces: what is none of the names is an error, and is not sent as it stands. */
const PLACE = /\{\{([^{}]*)\}\}/g;
const PLACE_HERE = /\{\{([^{}]*)\}\}/y;

/** Text with `{{names}}` filled in, each made fit for its place by `quote`; one that is not known is an error. */
export function fill(
  text: string,
  names: Names,
  quote: (value: string) => string = (value) => value,
): string {
  refuseUnclosed(text);
  return text.replaceAll(PLACE, (place, name: string) => quote(lookUp(names, place, name)));
}

/** The names in a text, each once. */
export function namesIn(text: string): ReadonlySet<string> {
  refuseUnclosed(text);
  return new Set([...text.matchAll(PLACE)].map(([, name = ""]) => name.trim()));
}

function refuseUnclosed(text: string): void {
  if (text.replaceAll(PLACE, "").includes("{{")) throw new Error("{{ without a name and }} after it");
}

function lookUp(names: Names, place: string, name: string): string {
  const key = name.trim();
  const value = Object.hasOwn(names, key) ? names[key] : undefined;
  if (value === undefined) throw new Error(`${place} is not known`);
  return value;
}

const NUMBER = /^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$/;
const DURATION = /^([0-9]+(ms|[smhdwy]))+$/;
const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
/** Words of PromQL that would change what a query means, and numbers with which nothing can be compared. */
const KEYWORD =
  /^(and|or|unless|atan2|by|without|on|ignoring|group_left|group_right|offset|bool|start|end|inf|nan)$/i;

/**
 * A PromQL query with names filled in. Inside quotes a value is escaped; outside it has to be a number, a duration or the
 * name of a metric or label. Which of the two it is, the query itself says: it is read from its beginning.
 */
export function fillQuery(query: string, names: Names): string {
  refuseUnclosed(query);
  let filled = "";
  /** The quote that is open, or # in a comment; empty outside. */
  let within = "";
  for (let i = 0; i < query.length; ) {
    PLACE_HERE.lastIndex = i;
    const [place, name = ""] = PLACE_HERE.exec(query) ?? [];
    if (place !== undefined) {
      filled += inQuery(lookUp(names, place, name), within, place);
      i += place.length;
      continue;
    }
    const char = query.charAt(i);
    const escaped = char === "\\" && (within === '"' || within === "'");
    if (within === "") within = /["'`#]/.test(char) ? char : "";
    else if (char === within || (within === "#" && char === "\n")) within = "";
    filled += escaped ? query.slice(i, i + 2) : char;
    i += escaped ? 2 : 1;
  }
  return filled;
}

function inQuery(value: string, within: string, place: string): string {
  if (within === '"' || within === "'") return escaped(value, within);
  if (within === "`" || within === "#") {
    if (!value.includes(within === "#" ? "\n" : "`")) return value;
    throw new Error(`${place}: ${JSON.stringify(value)} would end the text that it stands in`);
  }
  const isToken = NUMBER.test(value) || DURATION.test(value) || (NAME.test(value) && !KEYWORD.test(value));
  if (isToken) return value;
  throw new Error(
    `${place} stands outside quotes: ${JSON.stringify(value)} is no number, duration or name of a metric`,
  );
}

function escaped(value: string, quote: string): string {
  return [...value]
    .map((char) => {
      if (char === "\\" || char === quote) return `\\${char}`;
      return char < " " ? `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}` : char;
    })
    .join("");
}

const BASE = /^https?:\/\/[^?#@\s]+$/;
const HOST = /^[A-Za-z0-9.-]+(:[0-9]{1,5})?$/;

/**
 * An address with names filled in. Where the host stands, a value has to be one (or a part of one, or a port); a value that
 * an address begins with may be a whole address; everywhere else it is percent-encoded, and goes up no path.
 */
export function fillUrl(url: string, names: Names): string {
  refuseUnclosed(url);
  const host = url.search(/[^:/]([/?#]|$)/) + 1;
  const filled = url.replaceAll(PLACE, (place, name: string, at: number) => {
    const value = lookUp(names, place, name);
    if (at === 0) {
      if (BASE.test(value)) return value;
      throw new Error(`${place} stands at the beginning, and is no address of http or https without a user`);
    }
    if (at < host) {
      if (HOST.test(value)) return value;
      throw new Error(`${place} stands where the host does, and is none`);
    }
    if (/^\.{1,2}$/.test(value)) throw new Error(`${place} is a step in a path`);
    return encodeURIComponent(value);
  });
  const parsed = URL.parse(filled);
  if (parsed === null || !/^https?:$/.test(parsed.protocol)) throw new Error("no address of http or https");
  if (parsed.username !== "" || parsed.password !== "")
    throw new Error("the address holds a user and password: it may not");
  return filled;
}
