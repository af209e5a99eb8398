import type { MarketData, Trade } from "#runtime/contracts/index.ts";
import type { FeatureView } from "#runtime/features/vector.ts";

// Features of one instrument from its own messages, each of order 1. Half-lives are in trades. The same code
// feeds the store and the fitting of models.

/** The feature view that {@link TickFeatures} fills. */
export const TICKS_VIEW: FeatureView = {
  name: "ticks",
  version: 1,
  features: [
    "return_1",
    "momentum_5",
    "momentum_20",
    "momentum_100",
    "volatility_20",
    "volatility_200",
    "volatility_ratio",
    "flow_10",
    "flow_50",
    "size_surprise",
    "spread_bps",
    "book_imbalance",
  ],
  freshMs: 2_000,
  ttlMs: 60_000,
};

/** Positions of the features by which a market's regime is told. */
export const VOLATILITY_RATIO = TICKS_VIEW.features.indexOf("volatility_ratio");

const BPS = 10_000;

function decay(halfLife: number): number {
  return 2 ** (-1 / halfLife);
}

const D5 = decay(5);
const D10 = decay(10);
const D20 = decay(20);
const D50 = decay(50);
const D100 = decay(100);
const D200 = decay(200);
const FLOOR = 1e-12;
/** A return of one trade to the next is taken as at most this, so that one bad print does not fill the memory. */
const MAX_RETURN = 0.05;

/** Rolling features of one instrument. State is a dozen numbers; without history every feature is 0. */
export class TickFeatures {
  #price: number | undefined;
  #trades = 0;
  #return = 0;
  #m5 = 0;
  #m20 = 0;
  #m100 = 0;
  #v20 = 0;
  #v200 = 0;
  #f10 = 0;
  #f50 = 0;
  #logSize = 0;
  #sizeSurprise = 0;
  #spreadBps = 0;
  #imbalance = 0;

  update(message: MarketData): void {
    switch (message.type) {
      case "trade":
        this.#trade(message);
        return;
      case "bookTop": {
        const mid = (message.bidPrice + message.askPrice) / 2;
        this.#spreadBps = (BPS * (message.askPrice - message.bidPrice)) / mid;
        this.#imbalance = (message.bidSize - message.askSize) / (message.bidSize + message.askSize + FLOOR);
        return;
      }
      case "candle":
        return;
    }
  }

  #trade(trade: Trade): void {
    const raw = this.#price === undefined ? 0 : Math.log(trade.price / this.#price);
    const r = Math.max(-MAX_RETURN, Math.min(MAX_RETURN, raw)) * BPS;
    this.#price = trade.price;
    this.#return = r;
    this.#m5 = D5 * this.#m5 + (1 - D5) * r;
    this.#m20 = D20 * this.#m20 + (1 - D20) * r;
    this.#m100 = D100 * this.#m100 + (1 - D100) * r;
    // The first trades count more, so that the estimate starts at the level of what is seen.
    const start = 1 / ++this.#trades;
    this.#v20 += Math.max(1 - D20, start) * (r * r - this.#v20);
    this.#v200 += Math.max(1 - D200, start) * (r * r - this.#v200);
    // Which side took liquidity may not be known: then it is neither.
    const side = trade.side === undefined ? 0 : trade.side === "buy" ? 1 : -1;
    this.#f10 = D10 * this.#f10 + (1 - D10) * side;
    this.#f50 = D50 * this.#f50 + (1 - D50) * side;
    const logSize = Math.log(trade.size + FLOOR);
    this.#sizeSurprise = this.#trades === 1 ? 0 : logSize - this.#logSize;
    this.#logSize += Math.max(1 - D100, start) * (logSize - this.#logSize);
  }

  /** The values in the order of {@link TICKS_VIEW}. */
  vector(): number[] {
    const fast = Math.sqrt(this.#v20);
    const slow = Math.sqrt(this.#v200);
    return [
      this.#return,
      this.#m5,
      this.#m20,
      this.#m100,
      fast,
      slow,
      slow < FLOOR ? 1 : fast / slow,
      this.#f10,
      this.#f50,
      this.#sizeSurprise,
      this.#spreadBps,
      this.#imbalance,
    ];
  }
}
