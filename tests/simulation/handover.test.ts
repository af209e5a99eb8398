import { describe, expect, it } from "vitest";
import { explore } from "./explore.ts";
import type { ModelConfig } from "./state.ts";

// Every order in which things can happen, over the production rules. Short forms are part of `npm test`; with
// EXPLORE=full the larger ones are explored as well.

const FULL = process.env["EXPLORE"] === "full";
const base: ModelConfig = {
  partitions: 1,
  messages: ["X", "Y"],
  script: [{ keys: ["X"], from: "a", to: "b" }],
  faults: 0,
  forces: 0,
  handBacks: 0,
  duplicates: 0,
  lag: false,
};
const thereAndBack: ModelConfig["script"] = [
  { keys: ["X"], from: "a", to: "b" },
  { keys: ["X"], from: "b", to: "a" },
];
const thenTheRest: ModelConfig["script"] = [
  { keys: ["X"], from: "a", to: "b" },
  { keys: ["*"], from: "a", to: "b" },
];

const threeInTurn: Partial<ModelConfig> = {
  revisions: 3,
  script: [
    { keys: ["X"], from: "a", to: "c" },
    { keys: ["X"], from: "c", to: "b" },
  ],
};

const one = { messages: ["X"] };

/** Two instruments that begin at different cuts go back together. */
const together: ModelConfig["script"] = [
  { keys: ["X"], from: "a", to: "b" },
  { keys: ["Y"], from: "a", to: "b" },
  { keys: ["X", "Y"], from: "b", to: "a" },
];

const SHORT: readonly (readonly [string, Partial<ModelConfig>])[] = [
  ["a request there and one back, with a forced release", { script: thereAndBack, forces: 1 }],
  ["late and repeated ledger records", { script: thereAndBack, duplicates: 1 }],
  ["two crashes or zombies, two instruments", { faults: 2 }],
  ["one instrument, then all others, with a crash or a zombie", { script: thenTheRest, faults: 1 }],
  ["two partitions", { partitions: 2, messages: ["X"] }],
  ["positions that lag, with a crash or a zombie", { faults: 1, lag: true }],
  ["positions that lag, with a forced release", { forces: 1, lag: true }],
  ["one that is away and begins anew", { faults: 1, anew: true }],
  [
    "one that is away and begins anew, there and back",
    { ...one, script: thereAndBack, faults: 1, anew: true },
  ],
  ["one that begins at any time", { ...one, begun: 1 }],
  ["two instruments there and back together", { script: together }],
];
const LONG: readonly (readonly [string, Partial<ModelConfig>])[] = [
  ["two partitions, handed back", { partitions: 2, messages: ["X"], handBacks: 1 }],
  ["two partitions, with a forced release", { partitions: 2, messages: ["X"], forces: 1 }],
  ["two partitions, with a crash or a zombie", { partitions: 2, messages: ["X"], faults: 1 }],
  ["positions that lag, three messages", { messages: ["X", "Y", "X"], faults: 1, lag: true }],
  ["positions that lag, a fault and a forced release", { forces: 1, faults: 1, lag: true }],
  ["positions that lag, there and back", { script: thereAndBack, faults: 1, lag: true }],
  ["positions that lag, two crashes or zombies", { faults: 2, lag: true }],
  ["a fault, a forced release and a hand-back", { messages: ["X"], faults: 1, forces: 1, handBacks: 1 }],
  ["two faults and a forced release", { messages: ["X"], faults: 2, forces: 1 }],
  ["a fault and a hand-back, three messages", { messages: ["X", "Y", "X"], faults: 1, handBacks: 1 }],
  ["a fault and a forced release, three messages", { messages: ["X", "Y", "X"], faults: 1, forces: 1 }],
  ["two that begin at any time, one after another's take-over", { ...threeInTurn, ...one, begun: 1 }],
  ["one that begins anew, handed back", { ...one, faults: 1, handBacks: 1, anew: true }],
  ["one that begins anew, positions that lag", { faults: 1, lag: true, anew: true }],
  ["one that begins anew, three messages", { messages: ["X", "Y", "X"], faults: 1, anew: true }],
  ["one that begins anew, a forced release", { faults: 1, forces: 1, anew: true }],
  ["one that begins anew, two crashes or zombies", { faults: 2, anew: true }],
  ["one that begins anew, one instrument, then all others", { script: thenTheRest, faults: 1, anew: true }],
  ["one that begins anew, two partitions", { ...one, partitions: 2, faults: 1, anew: true }],
];

describe("the hand-over, in every order", () => {
  it.each([...SHORT, ...(FULL ? LONG : [])])(
    "%s: no breach, and the end is always in reach",
    { timeout: 600_000 },
    (name, change) => {
      const result = explore({ ...base, ...change });
      console.log(`${name}: ${result.states} states`);
      expect(result.breach).toBeUndefined();
      expect(result.closed).toBe(true);
      expect(result.stuckSteps).toEqual([]);
      expect(result.stuck).toBe(0);
    },
  );

  it.each([
    ["fencing", "a zombie decides beside its successor"],
    ["ledger-read", "a worker decides by what was before"],
    ["same-transaction", "both decide what lies behind the cut"],
  ] as const)("without %s there is a breach: %s", (without, _) => {
    const result = explore({ ...base, messages: ["X", "Y", "X"], faults: 1, without });
    expect(result.breach?.message).toMatch(/again|before/);
    expect(result.breach?.steps.length).toBeGreaterThan(0);
  });

  it.each([
    ["the owners' positions", "at the log's end", {}],
    ["the cuts", "behind where the owner has let go already", { script: thereAndBack }],
    [
      "the cuts",
      "behind where the owner has let go for another",
      { ...threeInTurn, ...one, begun: 1, faults: 0 },
    ],
    ["its own", "behind what it decides on", { messages: ["X", "X"] }],
    ["positions first", "where the owner is that has let go meanwhile", {}],
  ] as const)("who begins without %s begins %s: there is a breach", (without, _, change) => {
    const result = explore({ ...base, faults: 1, anew: true, ...change, without });
    expect(result.breach?.message).toMatch(/before/);
    expect(result.breach?.steps.some((step) => step.startsWith("begin"))).toBe(true);
  });
});
