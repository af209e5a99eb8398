import { SourceError } from "./errors.ts";

/** Units of numbers that are times since 1970-01-01 UTC. */
export const TIME_UNITS = ["s", "ms", "us", "ns"] as const;
export type TimeUnit = (typeof TIME_UNITS)[number];

const EARLIEST = Date.UTC(2000);
const LATEST = Date.UTC(2100);

/** Whether milliseconds since 1970 are in the years 2000 to 2099: what market data can be from. */
export function isPlausible(ms: number): boolean {
  return ms >= EARLIEST && ms < LATEST;
}

const NAMES: Readonly<Record<TimeUnit, string>> = {
  s: "seconds",
  ms: "milliseconds",
  us: "microseconds",
  ns: "nanoseconds",
};
/** By how many digits the unit is finer than milliseconds. */
const FINER: Readonly<Record<TimeUnit, number>> = { s: -3, ms: 0, us: 3, ns: 6 };

const NUMBER = /^([+-]?)(\d+)(?:\.(\d*))?$/;
const EXPONENT = /^[+-]?\d+(?:\.\d*)?e[+-]?\d+$/i;
const ISO =
  /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?\s*(Z|UTC|[+-]\d{2}(?::?\d{2})?)?$/i;

/** Milliseconds, rounded down, of a number in a unit; exact for as many digits as there are. */
function scaled(text: string, unit: TimeUnit): number | undefined {
  const plain = EXPONENT.test(text) ? String(Number(text)) : text;
  const [, sign, whole = "", fraction = ""] = NUMBER.exec(plain) ?? [];
  if (sign === undefined) return undefined;
  const finer = FINER[unit];
  const digits = finer <= 0 ? whole + fraction.padEnd(-finer, "0").slice(0, -finer) : whole.slice(0, -finer);
  const ms = Number(digits);
  return sign === "-" ? -ms : ms;
}

/** Milliseconds of a date or time of ISO 8601; without a zone it is UTC. Undefined for anything else. */
function isoTime(text: string): number | undefined {
  const [, date, time = "00:00", seconds = "00", fraction = "", zone = "Z"] = ISO.exec(text) ?? [];
  if (date === undefined) return undefined;
  const ms = fraction.padEnd(3, "0").slice(0, 3);
  const utc = Date.parse(`${date}T${time}:${seconds}.${ms}Z`);
  // There is no 30th of February; JavaScript takes it for one of March.
  if (Number.isNaN(utc) || new Date(utc).getUTCDate() !== Number(date.slice(8))) return undefined;
  const [, sign, hours, minutes = "0"] = /^([+-])(\d{2}):?(\d{2})?$/.exec(zone) ?? [];
  const offset = (Number(hours ?? 0) * 60 + Number(minutes)) * 60_000;
  return sign === "-" ? utc + offset : utc - offset;
}

function isNumber(text: string): boolean {
  return NUMBER.test(text) || EXPONENT.test(text);
}

/** The only unit in which a number is a plausible time: their ranges do not meet. */
function unitOf(text: string): TimeUnit | undefined {
  return TIME_UNITS.find((unit) => isPlausible(scaled(text, unit) ?? Number.NaN));
}

type Form = TimeUnit | "date" | "iso";

/**
 * Reads the times of one column. What each value says of itself, a date of Parquet or ISO 8601, counts; else the unit
 * that is told; else the only unit in which the first value is plausible. All values of a column have the same.
 */
export class TimeColumn {
  readonly #name: string;
  readonly #onDerived: (unit: string) => void;
  readonly #told: TimeUnit | undefined;
  #form: Form | undefined;

  constructor(name: string, told: TimeUnit | undefined, onDerived: (unit: string) => void = () => {}) {
    this.#name = name;
    this.#told = told;
    this.#onDerived = onDerived;
  }

  /**
   * Milliseconds since 1970, which are plausible; undefined where the value is no such time in this column's unit.
   * Throws SourceError UNKNOWN_TIME_UNIT where nothing tells the unit, or where the value is in another one.
   */
  read(value: unknown): number | undefined {
    if (value instanceof Date) {
      this.#expect("date", value.toISOString());
      return isPlausible(value.getTime()) ? value.getTime() : undefined;
    }
    const text = String(value).trim();
    if (!isNumber(text)) {
      const ms = isoTime(text);
      if (ms === undefined) return undefined;
      this.#expect("iso", text);
      return isPlausible(ms) ? ms : undefined;
    }
    const unit = this.#unit(text);
    const ms = scaled(text, unit);
    if (ms !== undefined && isPlausible(ms)) return ms;
    const other = unitOf(text);
    if (other === undefined) return undefined;
    throw this.#mixed(`${text}, which is in ${NAMES[other]},`, unit);
  }

  #unit(text: string): TimeUnit {
    const form = this.#form ?? this.#told;
    if (form === "date" || form === "iso") throw this.#mixed(`the number ${text}`, form);
    const unit = form ?? unitOf(text);
    if (unit === undefined) {
      throw new SourceError(
        "UNKNOWN_TIME_UNIT",
        `${this.#name}: ${text} is no time of the years 2000 to 2099 in seconds, milliseconds, microseconds or nanoseconds; say the unit with REPLAY_TIME_UNIT`,
      );
    }
    if (form === undefined) this.#onDerived(NAMES[unit]);
    this.#form = unit;
    return unit;
  }

  #expect(form: "date" | "iso", text: string): void {
    this.#form ??= form;
    if (this.#form !== form) throw this.#mixed(text, this.#form);
  }

  #mixed(what: string, form: Form): SourceError {
    const read = form === "date" ? "dates" : form === "iso" ? "ISO 8601" : NAMES[form];
    const told = form === this.#told ? ", as REPLAY_TIME_UNIT says" : "";
    return new SourceError(
      "UNKNOWN_TIME_UNIT",
      `${this.#name}: ${what} stands in a column that is read as ${read}${told}; a file has one unit`,
    );
  }
}
