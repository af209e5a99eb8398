import { INSTRUMENTS } from "#runtime/market/instruments.ts";
import { MarketSimulator } from "#runtime/market/simulator.ts";
import { TickFeatures } from "#runtime/market/ticks.ts";

/** Samples for fitting: features at a message, and the log return over the messages that follow. */
export interface Samples {
  readonly x: readonly (readonly number[])[];
  /** Log return over the horizon, basis points. */
  readonly y: readonly number[];
}

/** Messages of the same instrument that the forecast looks ahead. */
const AHEAD = 20;
const EVERY = 5;
const SKIP = 300;

/** Simulates a market and pairs features with what came after them. */
export function samples(seed: number, messages: number): Samples {
  const market = new MarketSimulator(seed, INSTRUMENTS);
  const histories = new Map<
    string,
    { readonly features: TickFeatures; readonly rows: number[][]; readonly mids: number[] }
  >();
  for (let i = 0; i < messages; i++) {
    const message = market.next(i);
    let history = histories.get(message.instrument);
    if (history === undefined) {
      history = { features: new TickFeatures(), rows: [], mids: [] };
      histories.set(message.instrument, history);
    }
    history.features.update(message);
    history.rows.push(history.features.vector());
    const mid = message.type === "bookTop" ? (message.bidPrice + message.askPrice) / 2 : undefined;
    history.mids.push(mid ?? history.mids.at(-1) ?? (message.type === "trade" ? message.price : 0));
  }
  const x: number[][] = [];
  const y: number[] = [];
  for (const { rows, mids } of histories.values()) {
    for (let i = SKIP; i + AHEAD < rows.length; i += EVERY) {
      x.push(rows[i] ?? []);
      y.push(10_000 * Math.log((mids[i + AHEAD] ?? 1) / (mids[i] ?? 1)));
    }
  }
  return { x, y };
}

export interface Scale {
  readonly mean: readonly number[];
  readonly deviation: readonly number[];
}

/** Mean and standard deviation of each column. */
export function scaleOf(x: readonly (readonly number[])[]): Scale {
  const width = x[0]?.length ?? 0;
  const columns = Array.from({ length: width }, (_, j) => x.map((row) => row[j] ?? 0));
  const mean = columns.map((column) => column.reduce((sum, value) => sum + value, 0) / column.length);
  const deviation = columns.map((column, j) => {
    const squares = column.reduce((sum, value) => sum + (value - (mean[j] ?? 0)) ** 2, 0);
    return Math.sqrt(squares / column.length) || 1;
  });
  return { mean, deviation };
}

export function standardize(x: readonly (readonly number[])[], scale: Scale): number[][] {
  return x.map((row) => row.map((value, j) => (value - (scale.mean[j] ?? 0)) / (scale.deviation[j] ?? 1)));
}
