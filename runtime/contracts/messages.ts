import * as z from "zod";
import { defineContract } from "./contract.ts";
import * as f from "./fields.ts";

const marketCommon = {
  instrument: f.instrument,
  assetClass: f.assetClass,
  eventTime: f.eventTime,
  sequence: z.int().min(0).describe("Number of the message in its instrument's stream, rising by one"),
};

export const tradeSchema = z
  .object({
    type: z.literal("trade").describe("A trade"),
    ...marketCommon,
    price: f.price("Price of the trade"),
    size: f.size("Size of the trade"),
    side: z
      .enum(["buy", "sell"])
      .describe("Side of the party that took liquidity; absent where the venue does not say it")
      .optional(),
  })
  .describe("One trade on the venue");

export const candleSchema = z
  .object({
    type: z.literal("candle").describe("A candle"),
    ...marketCommon,
    openTime: f.milliseconds("Start of the candle's interval"),
    closeTime: f.milliseconds("End of the candle's interval"),
    open: f.price("First price"),
    high: f.price("Highest price"),
    low: f.price("Lowest price"),
    close: f.price("Last price"),
    volume: f.size("Volume traded"),
    trades: z.int().min(0).describe("Number of trades"),
  })
  .describe("Trades of an interval in one record");

export const bookTopSchema = z
  .object({
    type: z.literal("bookTop").describe("Best bid and ask"),
    ...marketCommon,
    bidPrice: f.price("Best bid"),
    bidSize: f.size("Size at the best bid"),
    askPrice: f.price("Best ask"),
    askSize: f.size("Size at the best ask"),
  })
  .describe("Best bid and ask of the order book");

/** What the market did: a trade, a candle, or the top of the book. */
export const MarketData = defineContract(
  "market-data",
  1,
  z.discriminatedUnion("type", [tradeSchema, candleSchema, bookTopSchema]).describe("What the market did"),
);

/** What a model expects of an instrument. */
export const Signal = defineContract(
  "signal",
  1,
  z
    .object({
      deployment: f.name("ModelDeployment that decided"),
      revision: f.name("Revision of the deployment that decided"),
      model: f.model,
      instrument: f.instrument,
      input: f.inputPosition,
      eventTime: f.eventTime,
      producedAt: f.milliseconds("When the model computed this"),
      mu: f.mu,
      sigma: f.sigma,
      confidence: f.confidence,
      horizonMs: f.horizonMs,
      regime: f.regime,
      featuresAgeMs: z
        .number()
        .describe("Age of the features at the time of the event, milliseconds; negative when they are newer"),
    })
    .describe("What one model expects of one instrument, for one market-data message"),
);

/** Several models' signals on one instrument, blended, with what a position would risk. */
export const Opportunity = defineContract(
  "opportunity",
  1,
  z
    .object({
      instrument: f.instrument,
      eventTime: f.eventTime,
      producedAt: f.milliseconds("When the signals were blended"),
      signals: z
        .array(
          z
            .object({
              deployment: f.name("ModelDeployment that the signal is from"),
              input: f.inputPosition,
              weight: z
                .number()
                .min(0)
                .max(1)
                .describe("Share of the signal in the blend, in [0, 1]; shares sum to 1"),
            })
            .describe("One signal of the blend"),
        )
        .min(1)
        .max(64)
        .describe("The signals that were blended"),
      mu: f.mu,
      sigma: f.sigma,
      confidence: f.confidence,
      horizonMs: f.horizonMs,
      regime: f.regime,
      risk: z
        .object({
          sharpe: z.number().describe("mu / sigma of the blend, not annualised, dimensionless"),
          valueAtRisk95: z
            .number()
            .min(0)
            .describe("Loss not exceeded with 95 % probability, as a share of notional"),
          expectedShortfall95: z
            .number()
            .min(0)
            .describe("Mean loss in the worst 5 % of cases, as a share of notional"),
        })
        .describe("What a position of one unit of notional would risk over the horizon"),
    })
    .describe("Blended signals on one instrument with their risk"),
);

/** What to trade, within which limits. */
export const Intent = defineContract(
  "intent",
  1,
  z
    .object({
      id: z.string().min(1).max(128).describe("Identity of the intent: executing it twice is one execution"),
      instrument: f.instrument,
      side: z.enum(["buy", "sell"]).describe("Direction"),
      size: f.size("How much to trade"),
      createdAt: f.milliseconds("When the intent was formed"),
      validUntil: f.milliseconds("When the intent is void if not executed"),
      constraints: z
        .object({
          maxPosition: f.size("Largest absolute position after the trade"),
          maxNotional: z
            .number()
            .positive()
            .describe("Largest value of the trade, in units of the quote currency"),
          maxSlippageBps: z
            .number()
            .min(0)
            .describe("Largest distance from the reference price, basis points (1/100 of a percent)"),
          stopLoss: f.price("Price at which the position is closed").optional(),
        })
        .describe("Limits within which the intent may be executed"),
      opportunity: f.inputPosition,
    })
    .describe("A trade to be made, with the limits that the risk service set"),
);

/** Everything needed to reproduce one decision. */
export const DecisionLog = defineContract(
  "decision-log",
  1,
  z
    .object({
      deployment: f.name("ModelDeployment that decided"),
      revision: f.name("Revision that decided"),
      model: f.model,
      configHash: f.digest("Digest of the configuration that the revision ran with"),
      instrument: f.instrument,
      input: f.inputPosition,
      decidedAt: f.milliseconds("When the decision was made"),
      features: z
        .object({
          view: f.name("Feature view"),
          version: z.int().positive().describe("Version of the feature view"),
          status: z
            .enum(["fresh", "stale", "expired", "missing"])
            .describe("What the feature store said of them"),
          eventTime: f.milliseconds("Time of the event up to which they were computed").optional(),
          values: z
            .array(z.number().nullable())
            .max(4096)
            .describe("Values in the order of the view; null where a value was not known"),
        })
        .describe("What the model was given"),
      output: z
        .object({
          mu: f.mu,
          sigma: f.sigma,
          confidence: f.confidence,
          horizonMs: f.horizonMs,
          regime: f.regime,
        })
        .describe("What the model answered"),
      action: z
        .enum(["live", "shadow", "withheld"])
        .describe("What became of it: acted on, compared only, or halted"),
      traceId: z
        .string()
        .regex(/^[0-9a-f]{32}$/)
        .describe("W3C trace id, 32 hexadecimal digits")
        .optional(),
    })
    .describe("One decision with everything that is needed to make it again"),
);

/** Something about money or limits that a person or the operator has to act on. */
export const RiskAlert = defineContract(
  "risk-alert",
  1,
  z
    .object({
      deployment: f.name("ModelDeployment that is concerned"),
      revision: f.name("Revision that is concerned"),
      instrument: f.instrument.optional(),
      raisedAt: f.milliseconds("When the alert was raised"),
      severity: z.enum(["info", "warning", "critical"]).describe("How bad it is"),
      code: z
        .string()
        .regex(/^[A-Z][A-Z0-9_]{2,63}$/)
        .describe("What happened, a stable code in upper case"),
      message: z.string().min(1).max(2000).describe("What happened, a sentence for people"),
    })
    .describe("Something about money or limits that somebody has to know"),
);

export type MarketData = z.infer<typeof MarketData.schema>;
export type Trade = z.infer<typeof tradeSchema>;
export type BookTop = z.infer<typeof bookTopSchema>;
export type Candle = z.infer<typeof candleSchema>;
export type Signal = z.infer<typeof Signal.schema>;
export type Opportunity = z.infer<typeof Opportunity.schema>;
export type Intent = z.infer<typeof Intent.schema>;
export type DecisionLog = z.infer<typeof DecisionLog.schema>;
export type RiskAlert = z.infer<typeof RiskAlert.schema>;
