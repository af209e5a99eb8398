import { Counter, Histogram, type Registry } from "prom-client";
import { tripsCounter } from "#runtime/service/dependency.ts";

/** Metrics of the signal model. */
export function deciderMetrics(registry: Registry) {
  const registers = [registry];
  return {
    trips: tripsCounter(registry),
    signals: new Counter({ name: "baton_signals_total", help: "Signals committed", registers }),
    rejected: new Counter({
      name: "baton_dead_letters_total",
      help: "Records that got a dead letter, by reason",
      labelNames: ["code"] as const,
      registers,
    }),
    endToEnd: new Histogram({
      name: "baton_signal_end_to_end_seconds",
      help: "From the event at its source to the committed signal",
      buckets: [0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10],
      registers,
    }),
  };
}
