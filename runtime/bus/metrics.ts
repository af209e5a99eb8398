import { Counter, Gauge, Histogram, type Registry } from "prom-client";

const LATENCY_BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10];

/** Metrics of the bus. Topics are few and fixed by configuration, so they may be labels. */
export class BusMetrics {
  readonly sent: Counter<"topic">;
  readonly sentBytes: Counter<"topic">;
  readonly received: Counter<"topic" | "group">;
  readonly lag: Gauge<"topic" | "partition" | "group">;
  readonly sendSeconds: Histogram<"topic">;
  readonly commitSeconds: Histogram<string>;
  readonly handlerSeconds: Histogram<"topic">;
  readonly errors: Counter<"operation" | "code">;
  readonly bufferedBytes: Gauge<string>;
  readonly #buffers: (() => number)[] = [];

  constructor(registry: Registry) {
    const registers = [registry];
    this.sent = new Counter({
      name: "baton_bus_sent_records_total",
      help: "Records acknowledged by the broker or committed",
      labelNames: ["topic"],
      registers,
    });
    this.sentBytes = new Counter({
      name: "baton_bus_sent_bytes_total",
      help: "Bytes of values acknowledged or committed, before compression",
      labelNames: ["topic"],
      registers,
    });
    this.received = new Counter({
      name: "baton_bus_received_records_total",
      help: "Records handed to a batch handler",
      labelNames: ["topic", "group"],
      registers,
    });
    this.lag = new Gauge({
      name: "baton_bus_lag_records",
      help: "Records between the read position and the end of the partition, after the latest batch",
      labelNames: ["topic", "partition", "group"],
      registers,
    });
    this.sendSeconds = new Histogram({
      name: "baton_bus_send_seconds",
      help: "From send to acknowledgement, by batch",
      labelNames: ["topic"],
      buckets: LATENCY_BUCKETS,
      registers,
    });
    this.commitSeconds = new Histogram({
      name: "baton_bus_commit_seconds",
      help: "Duration of a transaction",
      buckets: LATENCY_BUCKETS,
      registers,
    });
    this.handlerSeconds = new Histogram({
      name: "baton_bus_handler_seconds",
      help: "Duration of a batch handler",
      labelNames: ["topic"],
      buckets: LATENCY_BUCKETS,
      registers,
    });
    this.errors = new Counter({
      name: "baton_bus_errors_total",
      help: "Failures by operation and code",
      labelNames: ["operation", "code"],
      registers,
    });
    const buffers = this.#buffers;
    this.bufferedBytes = new Gauge({
      name: "baton_bus_buffered_bytes",
      help: "Bytes that wait for acknowledgement in producers",
      registers,
      collect() {
        this.set(buffers.reduce((sum, buffered) => sum + buffered(), 0));
      },
    });
  }

  /** Adds a producer's buffer to the gauge; it is asked when somebody reads the metrics. */
  countBuffered(buffered: () => number): void {
    this.#buffers.push(buffered);
  }
}
