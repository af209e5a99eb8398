import { SourceError } from "./errors.ts";

// ccxt writes BTC/USDT for spot, BTC/USDT:USDT for a perpetual swap, BTC/USDT:USDT-261225 for a future and
// BTC/USDT:USDT-261225-100000-C for an option: base, quote, what it is settled in, expiry, strike, call or put.

const SYMBOL =
  /^(?<base>[^/:]+)\/(?<quote>[^/:]+)(?::(?<settle>[^/:-]+)(?:-(?<expiry>\d{6})(?:-(?<strike>[\d.]+)-(?<kind>[CP]))?)?)?$/;
const INSTRUMENT = /^[A-Z0-9][A-Z0-9._-]{0,31}$/;

const plain = (code: string) => code.replace(/[^A-Za-z0-9]/g, "").toUpperCase();

/**
 * The instrument name of a symbol: BTCUSDT, BTCUSDT-PERP, BTCUSDT-261225, BTCUSDT-261225-100000-C. What is settled in
 * another currency than its quote says so: BTCUSD_BTC-PERP. Throws SourceError BAD_SYMBOL for what is none of ccxt's.
 */
export function instrumentOf(symbol: string): string {
  const { base = "", quote = "", settle, expiry, strike, kind } = SYMBOL.exec(symbol)?.groups ?? {};
  const pair = [base, quote].map(plain);
  const end = expiry === undefined ? ["PERP"] : [expiry, strike, kind].filter((part) => part !== undefined);
  const settled = settle === undefined || settle === quote ? "" : `_${plain(settle)}`;
  const name = settle === undefined ? pair.join("") : [`${pair.join("")}${settled}`, ...end].join("-");
  if (!pair.includes("") && settled !== "_" && INSTRUMENT.test(name)) return name;
  const why = pair.includes("")
    ? "is not written as ccxt writes symbols, such as BTC/USDT or BTC/USDT:USDT"
    : `has no instrument name of at most 32 letters, digits, '.', '_' and '-'`;
  throw new SourceError("BAD_SYMBOL", `the symbol ${symbol} ${why}`);
}

/** The instrument name of each symbol. Throws SourceError BAD_SYMBOL also where two symbols have the same. */
export function instrumentsOf(symbols: readonly string[]): ReadonlyMap<string, string> {
  const symbolOf = new Map<string, string>();
  for (const symbol of symbols) {
    const instrument = instrumentOf(symbol);
    const other = symbolOf.get(instrument);
    if (other !== undefined)
      throw new SourceError(
        "BAD_SYMBOL",
        `the symbols ${other} and ${symbol} are both ${instrument}: follow one`,
      );
    symbolOf.set(instrument, symbol);
  }
  return new Map([...symbolOf].map(([instrument, symbol]) => [symbol, instrument]));
}
