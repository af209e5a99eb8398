import { Counter, Histogram, type Registry } from "prom-client";

/** Metrics of the feature store. */
export class FeatureMetrics {
  readonly reads: Counter<"view" | "status">;
  readonly writes: Counter<"view" | "result">;
  readonly errors: Counter<"operation" | "code">;
  readonly seconds: Histogram<"operation">;

  constructor(registry: Registry) {
    const registers = [registry];
    this.reads = new Counter({
      name: "baton_features_reads_total",
      help: "Vectors asked for, by what was found",
      labelNames: ["view", "status"],
      registers,
    });
    this.writes = new Counter({
      name: "baton_features_writes_total",
      help: "Vectors offered, by whether they were written, older than what is stored, or of the future",
      labelNames: ["view", "result"],
      registers,
    });
    this.errors = new Counter({
      name: "baton_features_errors_total",
      help: "Failed commands by code",
      labelNames: ["operation", "code"],
      registers,
    });
    this.seconds = new Histogram({
      name: "baton_features_command_seconds",
      help: "Duration of a read or write of one batch",
      labelNames: ["operation"],
      buckets: [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5],
      registers,
    });
  }
}
