import { createReadStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parse as parseCsv } from "csv-parse";
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { decode, MarketData } from "#runtime/contracts/index.ts";
import { INSTRUMENTS } from "#runtime/market/instruments.ts";
import { MarketSimulator } from "#runtime/market/simulator.ts";

/** A stream of messages at the pace at which they are to be sent; ends with its data or with the signal. */
export type Source = (signal: AbortSignal) => AsyncIterable<MarketData>;

const TICK_MS = 2;
/** When sending has fallen behind by this, the missed messages are not made up for. */
const MAX_BEHIND_MS = 1_000;

/** The simulated market at `rate` messages a second, each with the time of its making. */
export function simulated(seed: number, rate: number): Source {
  return async function* (signal) {
    const market = new MarketSimulator(seed, INSTRUMENTS);
    let due = performance.now();
    const stepMs = 1_000 / Math.max(rate, 1e-9);
    while (!signal.aborted) {
      const now = performance.now();
      if (now - due > MAX_BEHIND_MS) due = now;
      while (due <= now) {
        yield market.next(Date.now());
        due += stepMs;
      }
      await sleep(Math.max(TICK_MS, due - performance.now()), undefined, { signal }).catch(() => {});
    }
  };
}

/**
 * Messages of a CSV or Parquet file whose columns are the fields of a message, `speed` times as fast as they
 * happened. Event times are kept. Throws for a row that is no message, naming it.
 */
export function replayed(file: string, speed: number): Source {
  return async function* (signal) {
    let first: { readonly event: number; readonly at: number } | undefined;
    let row = 0;
    for await (const columns of rows(file)) {
      row += 1;
      if (signal.aborted) return;
      const message = fromColumns(columns, row, file);
      first ??= { event: message.eventTime, at: performance.now() };
      const due = speed === 0 ? 0 : first.at + (message.eventTime - first.event) / speed;
      const waitMs = due - performance.now();
      if (waitMs > 1) await sleep(waitMs, undefined, { signal }).catch(() => {});
      yield message;
    }
  };
}

async function* rows(file: string): AsyncIterable<Record<string, unknown>> {
  if (file.endsWith(".parquet")) {
    const buffer = await asyncBufferFromFile(file);
    const metadata = await parquetMetadataAsync(buffer);
    let start = 0;
    // One row group at a time: a day of trades does not fit into memory.
    for (const group of metadata.row_groups) {
      const end = start + Number(group.num_rows);
      yield* await parquetReadObjects({ file: buffer, metadata, rowStart: start, rowEnd: end });
      start = end;
    }
    return;
  }
  yield* createReadStream(file).pipe(parseCsv({ columns: true, trim: true, skip_empty_lines: true }));
}

const TEXT = new Set(["type", "instrument", "assetClass", "side"]);

function fromColumns(columns: Readonly<Record<string, unknown>>, row: number, file: string): MarketData {
  const fields: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(columns)) {
    if (value === "" || value === null || value === undefined) continue;
    fields[name] = TEXT.has(name) ? String(value) : Number(value);
  }
  try {
    return decode(MarketData, Buffer.from(JSON.stringify(fields)));
  } catch (error) {
    throw new Error(`${file}, row ${row}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** What we use of ccxt's exchanges. */
interface Exchange {
  watchTrades(symbol: string): Promise<
    readonly {
      readonly timestamp?: number;
      readonly price?: number;
      readonly amount?: number;
      readonly side?: string;
    }[]
  >;
  close(): Promise<unknown>;
}

/**
 * Live trades through ccxt, which is not among our dependencies (60 MB for a switch that most never turn):
 * `npm install ccxt` beside it.
 */
export function live(exchangeName: string, symbols: readonly string[]): Source {
  return async function* (signal) {
    const exchange = await openExchange(exchangeName);
    signal.addEventListener("abort", () => void exchange.close(), { once: true });
    const sequences = new Map<string, number>();
    const waiting = new Map(symbols.map((symbol) => [symbol, next(symbol)]));
    while (!signal.aborted) {
      const { symbol, trades } = await Promise.race(waiting.values());
      waiting.set(symbol, next(symbol));
      for (const trade of trades) {
        const { price, amount, timestamp } = trade;
        if (price === undefined || amount === undefined) continue;
        const instrument = symbol.replace(/[^A-Za-z0-9]/g, "").toUpperCase();
        const sequence = sequences.get(symbol) ?? 0;
        sequences.set(symbol, sequence + 1);
        yield {
          type: "trade",
          instrument,
          assetClass: "crypto",
          eventTime: timestamp ?? Date.now(),
          sequence,
          price,
          size: amount,
          side: trade.side === "sell" ? "sell" : "buy",
        };
      }
    }

    async function next(symbol: string) {
      return { symbol, trades: await exchange.watchTrades(symbol) };
    }
  };
}

async function openExchange(name: string): Promise<Exchange> {
  // Not a literal: the type checker would look for the package.
  const library = "ccxt";
  const module: unknown = await import(library).catch(() => undefined);
  if (module === undefined) throw new Error("SOURCE=live needs the package ccxt: npm install --no-save ccxt");
  const { pro } = (module as { default: { pro: Record<string, (new () => Exchange) | undefined> } }).default;
  const Type = pro[name];
  if (Type === undefined) throw new Error(`LIVE_EXCHANGE: ccxt has no exchange ${name} with live trades`);
  return new Type();
}
