import * as z from "zod";

// Fields that several contracts share. Every description states the unit, or what the text is.

export const instrument = z
  .string()
  .regex(/^[A-Z0-9][A-Z0-9._-]{0,31}$/)
  .describe("Symbol of the instrument in upper case, as the venue writes it, such as BTCUSDT");

export const assetClass = z
  .enum(["crypto", "equity", "fx", "future", "option", "rate"])
  .describe("Asset class of the instrument");

export const eventTime = z
  .int()
  .min(0)
  .describe("When it happened at its source, milliseconds since 1970-01-01 UTC");

export const milliseconds = (what: string) =>
  z.int().min(0).describe(`${what}, milliseconds since 1970-01-01 UTC`);

export const price = (what: string) =>
  z.number().positive().describe(`${what}, in units of the quote currency`);

export const size = (what: string) =>
  z.number().nonnegative().describe(`${what}, in units of the base asset`);

export const name = (what: string) =>
  z
    .string()
    .regex(/^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/)
    .describe(`${what}: lower-case letters, digits, '-' and '.', at most 63`);

export const digest = (what: string) =>
  z
    .string()
    .regex(/^sha256:[0-9a-f]{64}$/)
    .describe(`${what}, sha256: and 64 hexadecimal digits`);

export const inputPosition = z
  .object({
    topic: z.string().min(1).max(249).describe("Kafka topic"),
    partition: z.int().min(0).describe("Partition of the topic"),
    offset: z
      .string()
      .regex(/^\d{1,19}$/)
      .describe("Offset in the partition, a decimal number as text because it may exceed 2^53"),
  })
  .describe("The record from which this was made; with the deployment it identifies a decision");

export const model = z
  .object({
    name: name("Name of the model"),
    version: z.string().min(1).max(64).describe("Version of the model, as its registry writes it"),
    digest: digest("Digest of the model's manifest, which covers all of its files"),
  })
  .describe("The model that computed this");

export const mu = z.number().describe("Expected log return over the horizon, dimensionless (0.001 = 0.1 %)");
export const sigma = z
  .number()
  .positive()
  .describe("Standard deviation of the log return over the horizon, dimensionless, above 0");
export const confidence = z
  .number()
  .min(0)
  .max(1)
  .describe("Probability, in [0, 1], that the return has the sign of mu");
export const horizonMs = z.int().positive().describe("Length of time that the forecast is for, milliseconds");
export const regime = z
  .enum(["calm", "normal", "volatile", "stressed"])
  .describe(
    "State of the market by its recent volatility against its usual one: <0.7, <1.5, <3, or more times",
  );

export type Regime = z.infer<typeof regime>;
