export type Tier = "low" | "medium" | "high";

/** One instrument of the simulated market. */
export interface Instrument {
  readonly symbol: string;
  readonly tier: Tier;
  /** First price, in quote currency. */
  readonly price: number;
  /** Share of all messages; shares sum to 1. */
  readonly share: number;
  /** Usual half spread, as a share of the price. */
  readonly halfSpread: number;
  /** Usual standard deviation of the log return from one message to the next. */
  readonly volatility: number;
}

const HALF_SPREAD: Readonly<Record<Tier, number>> = { high: 0.5e-4, medium: 2e-4, low: 8e-4 };
const VOLATILITY: Readonly<Record<Tier, number>> = { high: 0.5e-4, medium: 1e-4, low: 2e-4 };

type Row = readonly [symbol: string, tier: Tier, price: number, weight: number];

const ROWS: readonly Row[] = [
  ["BTCUSDT", "high", 64_000, 300],
  ["ETHUSDT", "high", 3_100, 220],
  ["SOLUSDT", "high", 145, 120],
  ["BNBUSDT", "medium", 580, 60],
  ["XRPUSDT", "medium", 0.52, 50],
  ["DOGEUSDT", "medium", 0.12, 40],
  ["ADAUSDT", "medium", 0.38, 35],
  ["AVAXUSDT", "medium", 27, 30],
  ["LINKUSDT", "medium", 11.5, 25],
  ["DOTUSDT", "medium", 4.3, 20],
  ["LTCUSDT", "low", 67, 15],
  ["UNIUSDT", "low", 7.1, 14],
  ["ATOMUSDT", "low", 4.6, 13],
  ["ETCUSDT", "low", 19, 12],
  ["FILUSDT", "low", 3.7, 11],
  ["NEARUSDT", "low", 4.1, 10],
  ["APTUSDT", "low", 8.3, 8],
  ["ARBUSDT", "low", 0.55, 7],
  ["OPUSDT", "low", 1.6, 6],
  ["INJUSDT", "low", 19.5, 4],
];

const TOTAL = ROWS.reduce((sum, [, , , weight]) => sum + weight, 0);

/** The 20 instruments of the simulator, busiest first. */
export const INSTRUMENTS: readonly Instrument[] = ROWS.map(([symbol, tier, price, weight]) => ({
  symbol,
  tier,
  price,
  share: weight / TOTAL,
  halfSpread: HALF_SPREAD[tier],
  volatility: VOLATILITY[tier],
}));
