import { setImmediate as nextTurn } from "node:timers/promises";
import { backoffMs } from "#operators/controller-kit/backoff.ts";
import type { MarketData } from "#runtime/contracts/index.ts";
import { sleepFor } from "#runtime/time/sleep.ts";
import {
  type Exchange,
  type ImportCcxt,
  importCcxt,
  isBusy,
  openExchange,
  type Print,
  permanent,
} from "./ccxt.ts";
import type { OnRejected, Rejection } from "./errors.ts";
import { Handoff } from "./handoff.ts";
import { Admission, type Source } from "./source.ts";
import { instrumentsOf } from "./symbols.ts";

/** How one symbol's trades come. */
export type FeedState =
  | { readonly kind: "connecting" }
  | { readonly kind: "connected" }
  | {
      readonly kind: "lost";
      /** Failures in a row. */
      readonly failures: number;
      readonly retryInMs: number;
      readonly error: string;
    };

export interface LiveOptions {
  /** Told of each trade that is not published. */
  readonly onRejected?: OnRejected;
  /** Told of each change of a symbol's state, and of each failure. */
  readonly onFeed?: (instrument: string, state: FeedState) => void;
  /** Default: the installed package. */
  readonly importCcxt?: ImportCcxt;
  /** In [0, 1), for the jitter of waits. */
  readonly random?: () => number;
}

const BACKOFF = { baseMs: 250, maxMs: 30_000 };
/** An exchange that has limited our rate is left alone at least so long. */
const BUSY_MS = 10_000;
/** After an answer without trades; ccxt answers when there are some. */
const EMPTY_MS = 100;
const CLOSE_MS = 2_000;
/** Trades of a symbol whose ids are remembered; ccxt itself keeps 1,000. */
const MAX_IDS = 10_000;

/**
 * Live trades through ccxt. A lost connection is opened again, with waits, each symbol for itself; what is not a trade
 * of the contract, or has been published before, is rejected alone. Throws SourceError for what no waiting mends: the
 * package, the exchange, or a symbol that has never given a trade.
 */
export function live(exchangeName: string, symbols: readonly string[], options: LiveOptions = {}): Source {
  return async function* (signal) {
    const instruments = instrumentsOf(symbols);
    const exchange = await openExchange(exchangeName, options.importCcxt ?? importCcxt);
    const ended = new AbortController();
    const stop = AbortSignal.any([signal, ended.signal]);
    const handoff = new Handoff<readonly MarketData[]>();
    for (const [symbol, instrument] of instruments) {
      const feed = new Feed(exchange, { exchange: exchangeName, symbol, instrument }, options);
      feed.run(handoff, stop).catch((error: unknown) => handoff.fail(error));
    }
    try {
      for await (const messages of handoff.taken(stop)) yield* messages;
    } finally {
      ended.abort();
      await close(exchange);
    }
  };
}

/** Ends what waits for trades. An exchange that does not answer is not waited for. */
async function close(exchange: Exchange): Promise<void> {
  const closed = new AbortController();
  const ending = (async () => exchange.close())()
    .catch(() => {})
    .finally(() => closed.abort());
  await Promise.race([ending, sleepFor(CLOSE_MS, closed.signal)]);
}

interface FeedNames {
  readonly exchange: string;
  readonly symbol: string;
  readonly instrument: string;
}

/** The trades of one symbol. */
class Feed {
  readonly #exchange: Exchange;
  readonly #names: FeedNames;
  readonly #options: LiveOptions;
  readonly #admission = new Admission(Date.now);
  readonly #ids = new RecentIds(MAX_IDS);
  #sequence = 0;
  #newestTime = 0;
  /** Whether what comes may have come before the connection was lost. */
  #resumed = false;
  #state: FeedState["kind"] | undefined;

  constructor(exchange: Exchange, names: FeedNames, options: LiveOptions) {
    this.#exchange = exchange;
    this.#names = names;
    this.#options = options;
  }

  /** Resolves when it is stopped; rejects with what no waiting mends. */
  async run(handoff: Handoff<readonly MarketData[]>, stop: AbortSignal): Promise<void> {
    this.#become({ kind: "connecting" });
    let worked = false;
    for (let failures = 0; !stop.aborted; ) {
      try {
        const prints = await this.#exchange.watchTrades(this.#names.symbol);
        if (!Array.isArray(prints))
          throw new Error(`ccxt gives ${typeof prints} where it gives a list of trades`);
        if (stop.aborted) return;
        failures = 0;
        worked = true;
        this.#become({ kind: "connected" });
        const messages = this.#messages(prints);
        if (messages.length > 0) await handoff.give(messages);
        // Answers that are there at once must not keep the process from everything else.
        if (prints.length === 0) await sleepFor(EMPTY_MS, stop);
        else await nextTurn();
      } catch (error) {
        if (stop.aborted) return;
        // A symbol that has worked may come back, and the others must not end with it.
        const reason = worked ? undefined : permanent(this.#names.exchange, this.#names.symbol, error);
        if (reason !== undefined) throw reason;
        const { random = Math.random } = this.#options;
        const retryInMs = backoffMs(failures, BACKOFF, random(), isBusy(error) ? BUSY_MS : 0);
        failures += 1;
        const message = (error instanceof Error ? error.message : String(error)).slice(0, 300);
        this.#resumed = true;
        this.#become({ kind: "lost", failures, retryInMs, error: message });
        await sleepFor(retryInMs, stop);
      }
    }
  }

  #become(state: FeedState): void {
    if (state.kind === this.#state && state.kind !== "lost") return;
    this.#state = state.kind;
    this.#options.onFeed?.(this.#names.instrument, state);
  }

  /** The trades of one answer that are to be published, oldest first. */
  #messages(prints: readonly unknown[]): MarketData[] {
    const list = prints.map((print) => (typeof print === "object" && print !== null ? (print as Print) : {}));
    const time = ({ timestamp }: Print) => (typeof timestamp === "number" ? timestamp : 0);
    const messages: MarketData[] = [];
    for (const print of list.sort((one, other) => time(one) - time(other) || 0)) {
      const result = this.#admit(print);
      if ("message" in result) {
        messages.push(result.message);
        this.#sequence += 1;
      } else this.#options.onRejected?.(result.rejection);
    }
    if (prints.length > 0) this.#resumed = false;
    for (const { eventTime } of messages) this.#newestTime = Math.max(this.#newestTime, eventTime);
    return messages;
  }

  #admit(print: Print): { readonly message: MarketData } | { readonly rejection: Rejection } {
    const { symbol } = this.#names;
    const id = print.id === undefined || print.id === null || print.id === "" ? undefined : String(print.id);
    if (id !== undefined && this.#ids.has(id))
      return { rejection: { code: "DUPLICATE", detail: `${symbol}: the trade ${id}` } };
    // Exchanges begin with their last trades. Of those without an id, only what is older is surely known.
    if (id === undefined && this.#resumed && Number(print.timestamp) < this.#newestTime)
      return {
        rejection: { code: "DUPLICATE", detail: `${symbol}: a trade before the connection was lost` },
      };
    const result = this.#admission.admit(this.#fields(print));
    if ("rejection" in result)
      return { rejection: { ...result.rejection, detail: `${symbol}: ${result.rejection.detail}` } };
    if (id !== undefined) this.#ids.add(id);
    return result;
  }

  #fields({ timestamp, price, amount, side }: Print): Record<string, unknown> {
    return {
      type: "trade",
      instrument: this.#names.instrument,
      assetClass: "crypto",
      eventTime: typeof timestamp === "number" ? Math.floor(timestamp) : timestamp,
      sequence: this.#sequence,
      price,
      size: this.#size(price, amount),
      ...(side === undefined || side === null || side === "" ? {} : { side }),
    };
  }

  /** In units of the base asset; ccxt counts derivatives in contracts. */
  #size(price: unknown, amount: unknown): unknown {
    const { contractSize, inverse } = this.#exchange.markets?.[this.#names.symbol] ?? {};
    if (typeof contractSize !== "number" || typeof amount !== "number") return amount;
    // A contract of an inverse market is worth so much of the quote currency.
    return inverse === true && typeof price === "number"
      ? (amount * contractSize) / price
      : amount * contractSize;
  }
}

/** The ids that were added last, so many of them. */
class RecentIds {
  readonly #most: number;
  readonly #ids = new Set<string>();

  constructor(most: number) {
    this.#most = most;
  }

  has(id: string): boolean {
    return this.#ids.has(id);
  }

  add(id: string): void {
    this.#ids.add(id);
    if (this.#ids.size > this.#most) this.#ids.delete(this.#ids.values().next().value ?? "");
  }
}
