import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import { type ModelDeploymentStatus, PHASES } from "./api/status.ts";

type Status = ModelDeploymentStatus;

/**
 * Metrics of the operator. What is said of single objects is made anew from their latest status whenever somebody asks, so
 * that nothing is left of one that is gone; what is counted has no names of objects.
 */
export class OperatorMetrics {
  readonly passes: Counter<"result">;
  readonly passSeconds: Histogram;
  readonly queueDepth: Gauge;
  readonly apiRequests: Counter<"method" | "resource" | "code">;
  readonly notifications: Counter<"service" | "result">;
  readonly statusRefusals: Counter<"result">;
  readonly #measurements: Counter<"verdict">;
  readonly #releases: Histogram<"status">;
  readonly #objects = new Map<string, Status>();

  /** `lastProgress` is the time of the last sign of life of the API server, in milliseconds since 1970; 0 for none yet. */
  constructor(registry: Registry, lastProgress: () => number) {
    const registers = [registry];
    const objects = this.#objects;
    const gauge = <T extends string>(
      name: string,
      help: string,
      labelNames: readonly T[],
      series: (status: Status) => readonly (readonly [Readonly<Partial<Record<T, string>>>, number])[],
    ) =>
      new Gauge({
        name,
        help,
        labelNames: ["namespace", "name", ...labelNames],
        registers,
        collect() {
          this.reset();
          for (const [key, status] of objects) {
            const [namespace = "", object = ""] = key.split("/");
            for (const [labels, value] of series(status))
              this.set({ ...labels, namespace, name: object } as never, value);
          }
        },
      });
    gauge("baton_deployment_phase", "1 for the phase that a ModelDeployment is in", ["phase"], ({ phase }) =>
      PHASES.map((one) => [{ phase: one }, one === phase ? 1 : 0]),
    );
    gauge("baton_deployment_step", "Step that the release on its way stands at", [], (status) =>
      status.currentStepIndex === undefined ? [] : [[{}, status.currentStepIndex]],
    );
    gauge(
      "baton_deployment_weight_ratio",
      "Share of the volume that the candidate decides on, 0 to 1, from the ledger",
      [],
      ({ weight }) => (weight === undefined ? [] : [[{}, weight / 100]]),
    );
    gauge(
      "baton_deployment_measurement",
      "Last value of each metric of the release on its way, and what it was compared with",
      ["metric", "side"],
      ({ analysis = [] }) =>
        analysis.flatMap(({ name, measurements }) => {
          const { value, baseline } = measurements.at(-1) ?? {};
          return [
            ...(value === undefined ? [] : [[{ metric: name, side: "candidate" }, Number(value)] as const]),
            ...(baseline === undefined
              ? []
              : [[{ metric: name, side: "stable" }, Number(baseline)] as const]),
          ];
        }),
    );
    this.passes = new Counter({
      name: "baton_operator_passes_total",
      help: "Looks at an object, by how they ended",
      labelNames: ["result"],
      registers,
    });
    this.passSeconds = new Histogram({
      name: "baton_operator_pass_seconds",
      help: "Duration of one look at an object",
      buckets: [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 15],
      registers,
    });
    this.queueDepth = new Gauge({
      name: "baton_operator_queue_depth",
      help: "Objects that wait to be looked at",
      registers,
    });
    this.apiRequests = new Counter({
      name: "baton_operator_api_requests_total",
      help: "Requests to the API server, watches and leases included",
      labelNames: ["method", "resource", "code"],
      registers,
    });
    this.notifications = new Counter({
      name: "baton_operator_notifications_total",
      help: "Notifications, by service and by whether they were delivered",
      labelNames: ["service", "result"],
      registers,
    });
    this.statusRefusals = new Counter({
      name: "baton_operator_status_refusals_total",
      help: "Statuses that the API server refused, by what became of them: reduced to decisions and facts, or unwritten",
      labelNames: ["result"],
      registers,
    });
    this.#measurements = new Counter({
      name: "baton_release_measurements_total",
      help: "Measurements of releases, by verdict",
      labelNames: ["verdict"],
      registers,
    });
    this.#releases = new Histogram({
      name: "baton_release_seconds",
      help: "Duration of releases, by how they ended",
      labelNames: ["status"],
      buckets: [1, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 14_400, 86_400],
      registers,
    });
    new Gauge({
      name: "baton_operator_watch_silence_seconds",
      help: "Since the last sign of life of the API server on the quietest watch",
      registers,
      collect() {
        const last = lastProgress();
        this.set(last === 0 ? 0 : (Date.now() - last) / 1000);
      },
    });
  }

  /** What a pass has made of an object's status. */
  observe(key: string, before: Status, after: Status): void {
    this.#objects.set(key, after);
    for (const { name, measurements } of after.analysis ?? []) {
      const known = before.analysis?.find((metric) => metric.name === name)?.measurements ?? [];
      const last = known.at(-1)?.at ?? "";
      for (const { at, verdict } of measurements) if (at > last) this.#measurements.inc({ verdict });
    }
    const [ended] = after.history ?? [];
    if (ended === undefined || ended.endedAt === before.history?.[0]?.endedAt) return;
    const seconds = (Date.parse(ended.endedAt) - Date.parse(ended.startedAt)) / 1000;
    this.#releases.observe({ status: ended.completionStatus }, seconds);
  }

  forget(key: string): void {
    this.#objects.delete(key);
  }
}
