import { defineConfig } from "vitest/config";
import { ownRun } from "./tests/support/scratch.ts";

// Also where vitest is called by itself: nothing of it stays in the temporary folder.
ownRun();

// `unit` needs nothing; `integration` runs against the real components that its set-up starts; `faults`
// kills what it started itself.
// Much of their time is waiting: for pods, for sessions to end, for brokers to come back. CI has the time to be gentle
// with machines that are slower than they say.
const beside = { sequence: { groupOrder: 1 }, maxWorkers: process.env["CI"] === undefined ? 4 : 2 };

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: [
            "{runtime,apps,charts,operators,clusters}/**/*.test.ts",
            "tests/{architecture,simulation,support}/**/*.test.ts",
          ],
          // Searches take what the machine needs for them; one that hangs is a fault all the same.
          testTimeout: 120_000,
        },
      },
      {
        test: {
          name: "integration",
          include: ["tests/{conformance,integration}/**/*.test.ts"],
          globalSetup: ["tests/support/global-setup.ts"],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          ...beside,
        },
      },
      {
        test: {
          name: "faults",
          include: ["tests/faults/*.test.ts"],
          testTimeout: 240_000,
          hookTimeout: 120_000,
          ...beside,
        },
      },
      {
        test: {
          name: "gitops",
          sequence: { groupOrder: 4 },
          include: ["tests/gitops/**/*.test.ts"],
          testTimeout: 180_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "kind",
          sequence: { groupOrder: 5 },
          include: ["tests/kind/**/*.test.ts"],
          globalSetup: ["tests/support/kind-setup.ts"],
          testTimeout: 300_000,
        },
      },
      {
        test: {
          name: "operator-faults",
          sequence: { groupOrder: 3 },
          include: ["tests/faults/operator/**/*.test.ts"],
          globalSetup: ["tests/support/operator-fire-setup.ts"],
          testTimeout: 240_000,
          hookTimeout: 120_000,
          maxWorkers: 2,
          // Much of their time is waiting for steps.
          maxConcurrency: 20,
        },
      },
    ],
  },
});
