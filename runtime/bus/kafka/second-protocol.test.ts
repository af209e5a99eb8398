import { describe, expect, it } from "vitest";
import { inForce, speaksSecond } from "./second-protocol.ts";

// Which versions a client goes by, from what a broker says it has and what its cluster has in force.

const api = (apiKey: number, maxVersion: number) => ({ apiKey, minVersion: 0, maxVersion });
const FETCH = api(1, 17);
const all = [FETCH, api(0, 13), api(26, 5), api(28, 5)];
const first = [FETCH, api(0, 7), api(26, 1), api(28, 1)];

describe("versions of a broker", () => {
  it.each([
    ["the second protocol in force", all, 2, all],
    ["a later one in force", all, 3, all],
    ["known, and not in force", all, 1, first],
    ["no word of it", all, 0, first],
    ["in force, and not known to this broker", [FETCH, api(0, 11), api(26, 4), api(28, 5)], 2, first],
    [
      "older than what the library has",
      [api(0, 5), api(26, 0), api(28, 1)],
      0,
      [api(0, 5), api(26, 0), api(28, 1)],
    ],
  ])("%s", (_, has, level, wanted) => {
    const versions = inForce(has, level);
    expect(versions).toEqual(wanted);
    const byKey = Object.fromEntries(versions.map(({ apiKey, maxVersion }) => [apiKey, { maxVersion }]));
    expect(speaksSecond({ versions: byKey })).toBe(wanted === all);
  });

  it("are not known before the first connection", () => {
    expect(speaksSecond({ versions: null })).toBe(false);
    expect(speaksSecond({})).toBe(false);
  });
});
