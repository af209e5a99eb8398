import { Counter, type Registry } from "prom-client";

export class WriteBackMetrics {
  readonly rollbacks: Counter<"result">;

  constructor(registry: Registry) {
    this.rollbacks = new Counter({
      name: "baton_write_backs_total",
      help: "Rollbacks that were to be written back to Git, by what came of it: written, there, unknown or failed",
      labelNames: ["result"],
      registers: [registry],
    });
  }
}
