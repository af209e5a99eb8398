import { describe, expect, it } from "vitest";
import { durationMs, milliseconds, momentMs } from "./kit.ts";

describe("a moment", () => {
  it.each([
    ["2026-01-31T20:00:00Z", 1_769_889_600_000],
    ["2028-02-29T00:00:00Z", 1_835_395_200_000],
    ["2000-02-29T00:00:00Z", 951_782_400_000],
  ])("%s is one", (text, ms) => expect(momentMs(text)).toBe(ms));

  it.each([
    "2026-02-30T20:00:00Z",
    "2100-02-29T00:00:00Z",
    "2026-04-31T20:00:00Z",
    "2026-13-01T00:00:00Z",
    "2026-01-01T24:00:00Z",
    "2026-01-01T23:60:00Z",
    "2026-06-30T23:59:60Z",
    "2026-01-01",
    "Friday",
    "",
  ])("%j is none", (text) => expect(momentMs(text)).toBeUndefined());
});

describe("a duration", () => {
  it.each([
    ["1d12h", 129_600_000],
    ["90s", 90_000],
    ["1m500ms", 60_500],
    ["0s", 0],
  ])("%s", (text, ms) => {
    expect(milliseconds(text)).toBe(ms);
    expect(durationMs(text)).toBe(ms);
  });

  it.each(["12h1d", "1h1h", "1 h", "h", "", "9999d", "1y", "-1s", "1.5h"])(
    "%j is none that is taken",
    (text) => expect(durationMs(text)).toBeUndefined(),
  );

  it("of more than a century, as it may be stored from before, is a century: its end can be written", () => {
    const ms = milliseconds("99999999999999999d");
    expect(ms).toBe(36_500 * 86_400_000);
    expect(new Date(Date.now() + ms).toISOString()).toMatch(/^21/);
  });
});
