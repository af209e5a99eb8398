import { expect, it } from "vitest";
import { OUTCOME_HEADER, parseOutcome } from "./outcome.ts";

const headers = (change: object) => ({
  [OUTCOME_HEADER.input]: "md.crypto/0/7",
  [OUTCOME_HEADER.revision]: "r-1",
  [OUTCOME_HEADER.kind]: "decision",
  [OUTCOME_HEADER.action]: "live",
  [OUTCOME_HEADER.epoch]: "3",
  ...change,
});

it("reads an outcome", () => {
  expect(parseOutcome(headers({}))).toMatchObject({ topic: "md.crypto", partition: 0, offset: 7n, epoch: 3 });
});

it.each([
  ["no partition", { [OUTCOME_HEADER.input]: "md.crypto//7" }],
  ["a partition in other words", { [OUTCOME_HEADER.input]: "md.crypto/0x1/7" }],
  ["a partition of a space", { [OUTCOME_HEADER.input]: "md.crypto/ /7" }],
  ["an epoch that is no number", { [OUTCOME_HEADER.epoch]: "x" }],
  ["an empty epoch", { [OUTCOME_HEADER.epoch]: "" }],
])("%s is no outcome: nothing is compared with what is no number", (_, change) => {
  expect(parseOutcome(headers(change))).toBeUndefined();
});
