import type { MarketData } from "#runtime/contracts/index.ts";
import type { Instrument } from "./instruments.ts";
import { type Random, seededRandom } from "./random.ts";

// The simulated market. Stylised facts that it has, each checked by a test:
//  - volatility clusters: GARCH(1,1) on the returns from message to message;
//  - tails are fat: on top of that, rare jumps several standard deviations wide;
//  - signs of trades are autocorrelated, and the order flow moves the price a little: there is something to learn;
//  - spreads widen with volatility and are wider for less traded instruments;
//  - few instruments have most of the messages.

const ALPHA = 0.08;
const BETA = 0.9;
const JUMP_PROBABILITY = 1 / 2_000;
const JUMP_WIDTH = 12;
const FLOW_MEMORY = 0.97;
const FLOW_IMPACT = 0.35;
const SIDE_PERSISTENCE = 0.4;
const TRADE_SHARE = 0.7;

interface State {
  readonly instrument: Instrument;
  price: number;
  variance: number;
  flow: number;
  lastSide: 1 | -1;
  sequence: number;
}

/** A seeded market of several instruments; `next` makes one message at a time. */
export class MarketSimulator {
  readonly #random: Random;
  readonly #states: readonly State[];
  readonly #cumulative: readonly number[];

  constructor(seed: number, instruments: readonly Instrument[]) {
    this.#random = seededRandom(seed);
    this.#states = instruments.map((instrument) => ({
      instrument,
      price: instrument.price,
      variance: instrument.volatility ** 2,
      flow: 0,
      lastSide: 1,
      sequence: 0,
    }));
    let sum = 0;
    this.#cumulative = instruments.map((instrument) => {
      sum += instrument.share;
      return sum;
    });
  }

  /** The next message of some instrument, with the event time that is given (milliseconds since 1970). */
  next(eventTime: number): MarketData {
    const state = this.#pick();
    this.#move(state);
    const { instrument } = state;
    const common = {
      instrument: instrument.symbol,
      assetClass: "crypto" as const,
      eventTime,
      sequence: state.sequence++,
    };
    if (this.#random.uniform() < TRADE_SHARE) {
      const buy = this.#side(state);
      const half = this.#halfSpread(state);
      return {
        type: "trade",
        ...common,
        price: round(state.price * (buy ? 1 + half : 1 - half)),
        size: round((100 * Math.exp(0.8 * this.#random.normal())) / state.price),
        side: buy ? "buy" : "sell",
      };
    }
    const half = this.#halfSpread(state);
    const tilt = Math.exp(0.6 * state.flow);
    const depth = (500 * Math.exp(0.4 * this.#random.normal())) / state.price;
    return {
      type: "bookTop",
      ...common,
      bidPrice: round(state.price * (1 - half)),
      bidSize: round(depth * tilt),
      askPrice: round(state.price * (1 + half)),
      askSize: round(depth / tilt),
    };
  }

  #pick(): State {
    const draw = this.#random.uniform() * (this.#cumulative.at(-1) ?? 1);
    const index = this.#cumulative.findIndex((sum) => draw < sum);
    return this.#states[index === -1 ? this.#states.length - 1 : index] as State;
  }

  #move(state: State): void {
    const usual = state.instrument.volatility ** 2;
    const sigma = Math.sqrt(state.variance);
    const shock = sigma * this.#random.normal();
    const jump = this.#random.uniform() < JUMP_PROBABILITY ? JUMP_WIDTH * sigma * this.#random.normal() : 0;
    state.price *= Math.exp(FLOW_IMPACT * sigma * state.flow + shock + jump);
    // A jump moves the price but does not feed the volatility for ever.
    state.variance = (1 - ALPHA - BETA) * usual + ALPHA * shock * shock + BETA * state.variance;
    state.flow *= FLOW_MEMORY;
  }

  #side(state: State): boolean {
    const same = this.#random.uniform() < (1 + SIDE_PERSISTENCE) / 2;
    const side = same ? state.lastSide : (-state.lastSide as 1 | -1);
    state.lastSide = side;
    state.flow += (1 - FLOW_MEMORY) * side * 4;
    return side === 1;
  }

  #halfSpread(state: State): number {
    const { halfSpread, volatility } = state.instrument;
    return halfSpread * (0.5 + (0.5 * Math.sqrt(state.variance)) / volatility);
  }
}

/** Eight significant digits: what a venue would write, and short JSON. */
function round(value: number): number {
  return Number(value.toPrecision(8));
}
