import type { Logger } from "pino";
import type { OnRejected, RejectionCode } from "./errors.ts";
import type { FeedState } from "./live.ts";
import type { MarketDataMetrics } from "./metrics.ts";

/** One line of a reason in so many milliseconds: a broken source would fill the disk. */
const LOG_EVERY_MS = 10_000;

/** Counts what is rejected, and logs the first of each reason now and then. */
export function rejections(metrics: MarketDataMetrics, log: Pick<Logger, "warn">): OnRejected {
  const told = new Map<RejectionCode, { at: number; since: number }>();
  return ({ code, detail }) => {
    metrics.rejected.inc({ code });
    const last = told.get(code);
    const now = performance.now();
    if (last !== undefined && now - last.at < LOG_EVERY_MS) {
      last.since += 1;
      return;
    }
    told.set(code, { at: now, since: 0 });
    log.warn({ code, detail, suppressed: last?.since ?? 0 }, "Record rejected");
  };
}

/** The states of the live feeds, for logs, metrics and readiness. */
export class Feeds {
  readonly #states = new Map<string, FeedState>();
  readonly #metrics: MarketDataMetrics;
  readonly #log: Pick<Logger, "info" | "warn">;

  constructor(metrics: MarketDataMetrics, log: Pick<Logger, "info" | "warn">) {
    this.#metrics = metrics;
    this.#log = log;
  }

  readonly onFeed = (instrument: string, state: FeedState): void => {
    this.#states.set(instrument, state);
    this.#metrics.connected.set({ instrument }, state.kind === "connected" ? 1 : 0);
    if (state.kind === "lost") {
      const { failures, retryInMs, error } = state;
      this.#metrics.connectionFailures.inc({ instrument });
      this.#log.warn({ instrument, failures, retryInMs, error }, "Live feed lost, retrying");
    } else {
      this.#metrics.connectionFailures.inc({ instrument }, 0);
      this.#log.info(
        { instrument },
        state.kind === "connected" ? "Live feed connected" : "Live feed connecting",
      );
    }
  };

  /** Rejects while a feed is lost, naming each. One that waits for its first trade is no failure: some trade rarely. */
  async check(): Promise<Readonly<Record<string, string>>> {
    const lost = [...this.#states].flatMap(([instrument, state]) =>
      state.kind === "lost" ? [`${instrument}: ${state.error} (${state.failures} in a row)`] : [],
    );
    if (lost.length > 0) throw new Error(`live trades are lost: ${lost.slice(0, 10).join("; ")}`);
    return Object.fromEntries([...this.#states].map(([instrument, { kind }]) => [instrument, kind]));
  }
}
