import { expect, it } from "vitest";
import * as z from "zod";
import { ConfigError, kinds, parseEnv } from "./index.ts";

const shape = {
  PORT: kinds.integer("the port", 1, 65_535),
  BROKERS: kinds.list("Kafka's addresses"),
  LIVE: kinds.boolean("whether it is live").default(false),
  API_TOKEN: z.string().min(8, "shorter than 8"),
  RATE: kinds.number("messages a second", 0, 10),
};

it("parses what is right and fills in defaults", () => {
  const env = { PORT: "80", BROKERS: "a:1, b:2", LIVE: "", API_TOKEN: "12345678", RATE: "1.5" };
  expect(parseEnv(shape, env)).toEqual({
    PORT: 80,
    BROKERS: ["a:1", "b:2"],
    LIVE: false,
    API_TOKEN: "12345678",
    RATE: 1.5,
  });
});

it("names five wrong variables at once and shows no secret", () => {
  const env = { PORT: "0x50", BROKERS: "a:1,,b:2", LIVE: "yes", API_TOKEN: "hunter2", RATE: "11" };
  let problems: readonly string[] = [];
  try {
    parseEnv(shape, env);
  } catch (error) {
    if (error instanceof ConfigError) problems = error.problems;
  }
  expect(problems.map((problem) => problem.split(":")[0])).toEqual([
    "PORT",
    "BROKERS",
    "LIVE",
    "API_TOKEN",
    "RATE",
  ]);
  expect(problems.join("\n")).not.toContain("hunter2");
});

it("says what a missing variable is", () => {
  expect(() => parseEnv(shape, { BROKERS: "a", API_TOKEN: "12345678", RATE: "1" })).toThrow(
    /PORT: not set; it is the port/,
  );
});
