import { SourceError } from "./errors.ts";

/** One trade as ccxt gives it; nothing of it is taken for granted. */
export interface Print {
  readonly id?: unknown;
  readonly timestamp?: unknown;
  readonly price?: unknown;
  /** In units of the base asset; of derivatives in contracts. */
  readonly amount?: unknown;
  readonly side?: unknown;
}

/** What we use of ccxt's exchanges. */
export interface Exchange {
  readonly has?: Readonly<Record<string, unknown>>;
  /** By symbol, once they are loaded. */
  readonly markets?: Readonly<
    Record<string, { readonly contractSize?: unknown; readonly inverse?: unknown }>
  >;
  watchTrades(symbol: string): Promise<unknown>;
  close(): Promise<unknown>;
}

/** Resolves with the module ccxt; rejects where it is not installed. */
export type ImportCcxt = () => Promise<unknown>;

/**
 * ccxt is not among our dependencies (60 MB for a switch that most never turn): `npm install ccxt` beside it.
 */
export const importCcxt: ImportCcxt = () => {
  // Not a literal: the type checker would look for the package.
  const library = "ccxt";
  return import(library);
};

/** Throws SourceError MISSING_PACKAGE or UNKNOWN_EXCHANGE. */
export async function openExchange(name: string, load: ImportCcxt): Promise<Exchange> {
  const module = await load().catch((cause: unknown) => {
    const message = "SOURCE=live needs the package ccxt: npm install --no-save ccxt";
    throw new SourceError("MISSING_PACKAGE", message, { cause });
  });
  const { pro } = (module as { default: { pro: Record<string, (new () => Exchange) | undefined> } }).default;
  const Type = Object.hasOwn(pro, name) ? pro[name] : undefined;
  if (Type === undefined)
    throw new SourceError("UNKNOWN_EXCHANGE", `LIVE_EXCHANGE: ccxt has no exchange ${name} with live trades`);
  const exchange = new Type();
  if (exchange.has?.["watchTrades"] === false)
    throw new SourceError("UNKNOWN_EXCHANGE", `LIVE_EXCHANGE: ccxt has no live trades of ${name}`);
  return exchange;
}

/** What no retry mends, by the names of ccxt's errors, and what to change. */
const PERMANENT = {
  BadSymbol: ["BAD_SYMBOL", "does not know the symbol: change LIVE_SYMBOLS"],
  NotSupported: [
    "UNKNOWN_EXCHANGE",
    "has no live trades of the symbol: change LIVE_EXCHANGE or LIVE_SYMBOLS",
  ],
  AuthenticationError: ["ACCESS_DENIED", "asks for an account: follow an exchange whose trades are public"],
  PermissionDenied: ["ACCESS_DENIED", "does not let us in, perhaps from this place: change LIVE_EXCHANGE"],
  AccountNotEnabled: ["ACCESS_DENIED", "has not enabled the account: change LIVE_EXCHANGE"],
  AccountSuspended: ["ACCESS_DENIED", "has suspended the account: change LIVE_EXCHANGE"],
} as const;

/** Errors after which the exchange wants to be left alone for longer. */
const BUSY = ["DDoSProtection", "RateLimitExceeded"];

/** The names of an error and of the classes it is of: ccxt's subclasses are many, and not ours to import. */
function namesOf(error: unknown): readonly string[] {
  if (!(error instanceof Error)) return [];
  const names = [error.name];
  for (let type = Object.getPrototypeOf(error); type !== null; type = Object.getPrototypeOf(type))
    names.push(String(type.constructor?.name));
  return names;
}

/** The sentence that says what to change; undefined for what may pass by waiting, which is all that is not known. */
export function permanent(exchange: string, symbol: string, error: unknown): SourceError | undefined {
  const known = namesOf(error).find((name) => Object.hasOwn(PERMANENT, name));
  if (known === undefined) return undefined;
  const [code, change] = PERMANENT[known as keyof typeof PERMANENT];
  const said = (error as Error).message.slice(0, 300);
  return new SourceError(code, `${symbol}: ${exchange} ${change} (it says: ${said})`, { cause: error });
}

export function isBusy(error: unknown): boolean {
  return namesOf(error).some((name) => BUSY.includes(name));
}
