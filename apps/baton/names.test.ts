import { expect, it } from "vitest";
import { noSuch } from "./names.ts";

it.each([
  [
    "BTCUSD",
    ["ETHUSDT", "BTCUSDT"],
    "no such instrument BTCUSD; known: BTCUSDT, ETHUSDT; did you mean BTCUSDT?",
  ],
  ["btcusdt", ["BTCUSDT"], "no such instrument btcusdt; known: BTCUSDT; did you mean BTCUSDT?"],
  ["XRP", ["BTCUSDT"], "no such instrument XRP; known: BTCUSDT"],
  ["XRP", [], "no such instrument XRP; there is none"],
  ["", ["A"], 'no such instrument ""; known: A; did you mean A?'],
  ["\u001b[2J", ["BTCUSDT"], 'no such instrument "\\u001b[2J"; known: BTCUSDT'],
  ["X".repeat(99), ["A"], `no such instrument "${"X".repeat(80)}"; known: A`],
])("%j among %j", (name, known, message) => {
  expect(noSuch("instrument", name, known).message).toBe(message);
});

it("lists no more than a line's worth, the nearest first", () => {
  const known = Array.from({ length: 500 }, (_, i) => `I${i}`);
  expect(noSuch("instrument", "I77x", known).message).toMatch(
    /known: I77, .* and 492 more; did you mean I77\?$/,
  );
});
