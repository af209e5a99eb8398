import { expect, it } from "vitest";
import { simulated } from "./sources.ts";

it("simulates at its rate and ends with its signal", async () => {
  const stop = new AbortController();
  let count = 0;
  setTimeout(() => stop.abort(), 500);
  for await (const _ of simulated(1, 2_000)(stop.signal)) count += 1;
  expect(count).toBeGreaterThan(500);
  expect(count).toBeLessThan(1_500);
});
