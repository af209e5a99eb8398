import * as z from "zod";
import { kinds } from "#runtime/config/index.ts";
import { SourceError } from "./errors.ts";
import { instrumentsOf } from "./symbols.ts";
import { TIME_UNITS } from "./time-unit.ts";

/** Variables of the market-data service. */
export const ENV = {
  KAFKA_BROKERS: kinds.list("Kafka's addresses, host:port separated by commas"),
  TOPIC: z
    .string()
    .regex(/^md\.[a-z]+\.[A-Za-z0-9_-]+$/, "not md.<asset class>.<instrument or group>")
    .describe("the topic for market data")
    .default("md.crypto.main"),
  PARTITIONS: kinds.integer("partitions of the topic when it is made", 1, 1000).default(4),
  REPLICAS: kinds.integer("replicas of the topic when it is made", 1, 7).default(1),
  SOURCE: z.enum(["simulate", "replay", "live"]).describe("where messages come from").default("simulate"),
  SEED: kinds.integer("seed of the simulated market", 0, 2 ** 31 - 1).default(1),
  RATE: kinds.number("simulated messages a second", 0, 200_000).default(2_000),
  REPLAY_FILE: z.string().describe("file to replay, .csv or .parquet").optional(),
  REPLAY_SPEED: kinds
    .number("how many times faster than it happened; 0 for as fast as possible", 0, 1e6)
    .default(1),
  REPLAY_TIME_UNIT: z
    .enum(["auto", ...TIME_UNITS])
    .describe(
      "unit of the file's times; auto takes what the file says, or its first row where only one can be",
    )
    .default("auto"),
  LIVE_EXCHANGE: z.string().describe("name of the exchange in ccxt").default("binance"),
  LIVE_SYMBOLS: kinds
    .list("instruments to follow, as ccxt writes them: BTC/USDT is spot, BTC/USDT:USDT the perpetual swap")
    .superRefine((symbols, context) => {
      try {
        instrumentsOf(symbols);
      } catch (error) {
        if (!(error instanceof SourceError)) throw error;
        context.addIssue(error.message);
      }
    })
    .default(["BTC/USDT"]),
  TRACE_EVERY: kinds.integer("one message of so many is traced; 0 for none", 0, 1e9).default(1_000),
  COMPRESSION: z.enum(["none", "gzip", "snappy", "zstd"]).describe("compression of batches").default("zstd"),
} as const;
