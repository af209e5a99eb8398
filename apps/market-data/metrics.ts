import { Counter, Gauge, type Registry } from "prom-client";
import { REJECTION_CODES } from "./errors.ts";

/** What the market-data service tells of its source. */
export class MarketDataMetrics {
  readonly messages: Counter;
  readonly rejected: Counter<"code">;
  readonly connected: Gauge<"instrument">;
  readonly connectionFailures: Counter<"instrument">;

  constructor(registry: Registry) {
    const registers = [registry];
    this.messages = new Counter({
      name: "baton_market_data_messages_total",
      help: "Messages taken from the source",
      registers,
    });
    this.rejected = new Counter({
      name: "baton_market_data_rejected_messages_total",
      help: "Records of the source that were not published, by reason",
      labelNames: ["code"],
      registers,
    });
    for (const code of Object.keys(REJECTION_CODES)) this.rejected.inc({ code }, 0);
    this.connected = new Gauge({
      name: "baton_market_data_feed_connected",
      help: "1 while the live trades of the instrument come, 0 while the connection is lost",
      labelNames: ["instrument"],
      registers,
    });
    this.connectionFailures = new Counter({
      name: "baton_market_data_feed_failures_total",
      help: "Times that the live trades of the instrument were lost, or could not be had again",
      labelNames: ["instrument"],
      registers,
    });
  }
}
