import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SourceError } from "./errors.ts";
import { isPlausible, TIME_UNITS, TimeColumn, type TimeUnit } from "./time-unit.ts";

const MS = 1_735_689_600_123;
const column = (told?: TimeUnit) => new TimeColumn("eventTime", told);
const codeOf = (run: () => unknown) => {
  try {
    run();
  } catch (error) {
    return error instanceof SourceError ? error.code : String(error);
  }
  return "none";
};

describe("a time", () => {
  it.each<[string, unknown, number]>([
    ["seconds", "1735689600", 1_735_689_600_000],
    ["seconds with a fraction", "1735689600.123", MS],
    ["seconds with a fraction as a number", 1_735_689_600.123, MS],
    ["milliseconds", "1735689600123", MS],
    ["milliseconds with a fraction", "1735689600123.9", MS],
    ["milliseconds as a bigint", 1_735_689_600_123n, MS],
    ["milliseconds with an exponent", "1.735689600123e12", MS],
    ["microseconds", "1735689600123456", MS],
    ["nanoseconds, more than a double holds", "1735689600123999999", MS],
    ["nanoseconds as a bigint", 1_735_689_600_123_999_999n, MS],
    ["a date of Parquet", new Date(MS), MS],
    ["ISO 8601", "2025-01-01T00:00:00.123Z", MS],
    ["ISO 8601 with nanoseconds", "2025-01-01T00:00:00.123456789Z", MS],
    ["ISO 8601 with a zone", "2025-01-01T01:30:00.123+01:30", MS],
    ["ISO 8601 west of Greenwich", "2024-12-31T19:00:00.123-0500", MS],
    ["ISO 8601 without a zone, which is UTC", "2025-01-01 00:00:00.123", MS],
    ["ISO 8601 to the minute", "2025-01-01T00:00", 1_735_689_600_000],
    ["a date", "2025-01-01", 1_735_689_600_000],
  ])("is read in %s", (_, value, ms) => {
    expect(column().read(value)).toBe(ms);
  });

  it("is found in whatever unit it is written, and never another", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: Date.UTC(2000) / 1000, max: Date.UTC(2100) / 1000 - 1 }),
        fc.constantFrom(...TIME_UNITS),
        (seconds, unit) => {
          const text = String(seconds) + "0".repeat({ s: 0, ms: 3, us: 6, ns: 9 }[unit]);
          expect(column().read(text)).toBe(seconds * 1000);
          expect(column(unit).read(text)).toBe(seconds * 1000);
        },
      ),
    );
  });

  it.each(["1000", "0", "-1735689600", "99999999999999999999999", "1e400"])(
    "is asked for where nothing tells its unit: %s",
    (text) => {
      expect(codeOf(() => column().read(text))).toBe("UNKNOWN_TIME_UNIT");
    },
  );

  it.each([
    "yesterday",
    "2025-13-01",
    "2025-02-30",
    "2025-01-01T25:00",
    "1970-01-01",
    "3025-01-01",
    "NaN",
    "0x10",
  ])("is none: %s", (text) => {
    expect(column().read(text)).toBeUndefined();
    expect(column("ms").read(text)).toBeUndefined();
  });
});

describe("the times of one column", () => {
  const mixed: [string, unknown, unknown][] = [
    ["seconds and milliseconds", "1735689600", "1735689600123"],
    ["milliseconds and microseconds", "1735689600123", "1735689600123456"],
    ["nanoseconds and seconds", "1735689600123456789", "1735689600"],
    ["milliseconds and ISO 8601", "1735689600123", "2025-01-01T00:00:00Z"],
    ["ISO 8601 and milliseconds", "2025-01-01T00:00:00Z", "1735689600123"],
    ["dates and numbers", new Date(MS), "1735689600123"],
  ];
  it.each(mixed)("are not %s", (_, first, second) => {
    const times = column();
    times.read(first);
    expect(codeOf(() => times.read(second))).toBe("UNKNOWN_TIME_UNIT");
  });

  it("may have one that is wrong", () => {
    const times = column();
    times.read(String(MS));
    expect(times.read("0")).toBeUndefined();
    expect(times.read("-5")).toBeUndefined();
    expect(times.read(String(MS + 1))).toBe(MS + 1);
  });

  it("are not what they are told to be", () => {
    expect(codeOf(() => column("ms").read("1735689600"))).toBe("UNKNOWN_TIME_UNIT");
    expect(() => column("ms").read("1735689600")).toThrow(
      /in seconds.*milliseconds, as REPLAY_TIME_UNIT says/,
    );
  });

  it("tell once which unit was derived, and not what was told", () => {
    const told: string[] = [];
    const times = new TimeColumn("eventTime", undefined, (unit) => told.push(unit));
    for (const text of ["1735689600123", "1735689600124"]) times.read(text);
    new TimeColumn("eventTime", "s", (unit) => told.push(unit)).read("1735689600");
    expect(told).toEqual(["milliseconds"]);
  });

  it("are never implausible, whatever is written", () => {
    const anything = fc.oneof(fc.string(), fc.double(), fc.bigInt(), fc.integer().map(String), fc.date());
    fc.assert(
      fc.property(anything, fc.constantFrom(undefined, ...TIME_UNITS), (value, told) => {
        if (value instanceof Date && Number.isNaN(value.getTime())) return;
        let ms: number | undefined;
        expect(["none", "UNKNOWN_TIME_UNIT"]).toContain(
          codeOf(() => {
            ms = column(told).read(value);
          }),
        );
        if (ms !== undefined) expect(isPlausible(ms) && Number.isInteger(ms)).toBe(true);
      }),
    );
  });
});
