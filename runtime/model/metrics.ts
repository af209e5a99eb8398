import { Counter, Histogram, type Registry } from "prom-client";

/** Metrics of one loaded model. */
export function modelMetrics(registry: Registry) {
  const registers = [registry];
  return {
    seconds: new Histogram({
      name: "baton_model_inference_seconds",
      help: "Duration of one call of the model",
      buckets: [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1],
      registers,
    }),
    batch: new Histogram({
      name: "baton_model_batch_rows",
      help: "Rows in one call of the model",
      buckets: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000],
      registers,
    }),
    errors: new Counter<"code">({
      name: "baton_model_errors_total",
      help: "Failed calls of the model by code",
      labelNames: ["code"],
      registers,
    }),
  };
}
