import { Counter, Gauge, Histogram, type Registry } from "prom-client";

/** Metrics of a worker that takes part in hand-overs. */
export function handoverMetrics(registry: Registry) {
  const registers = [registry];
  return {
    outcomes: new Counter({
      name: "baton_outcomes_total",
      help: "Outcomes committed: live, shadow, or withheld by a halt",
      labelNames: ["action", "kind"] as const,
      registers,
    }),
    handovers: new Counter({
      name: "baton_handovers_total",
      help: "Partitions released and taken over by this worker",
      labelNames: ["step"] as const,
      registers,
    }),
    filled: new Counter({
      name: "baton_handover_filled_total",
      help: "Decisions made live when taking over, by where they were kept",
      labelNames: ["source"] as const,
      registers,
    }),
    leftOut: new Counter({
      name: "baton_handover_left_out_total",
      help: "Input records that lay between where a revision had come to and where it began anew",
      registers,
    }),
    ringBytes: new Gauge({
      name: "baton_handover_ring_bytes",
      help: "Shadow outcomes kept in memory",
      labelNames: ["topic", "partition"] as const,
      registers,
    }),
    transactionRecords: new Histogram({
      name: "baton_transaction_input_records",
      help: "Input records of one transaction",
      buckets: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000],
      registers,
    }),
    halted: new Gauge({
      name: "baton_halted",
      help: "1 while live decisions are withheld",
      registers,
    }),
  };
}
