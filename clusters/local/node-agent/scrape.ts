import type { Pod } from "./types.ts";

/** One entry of a Prometheus file_sd document. */
export interface ScrapeTarget {
  readonly targets: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

const PREFIX = "prometheus.io/";

/**
 * The Pods that Prometheus is to read, by the usual annotations prometheus.io/scrape, port and path. Debian's
 * Prometheus is built without Kubernetes discovery; labels are the ones that its usual relabelling yields.
 */
export function scrapeTargets(pods: Iterable<{ readonly pod: Pod; readonly podIp: string }>): ScrapeTarget[] {
  const targets: ScrapeTarget[] = [];
  for (const { pod, podIp } of pods) {
    const { annotations = {}, labels = {}, name, namespace } = pod.metadata;
    const port = Number(annotations[`${PREFIX}port`]);
    if (annotations[`${PREFIX}scrape`] !== "true" || !Number.isInteger(port)) continue;
    targets.push({
      targets: [`${podIp}:${port}`],
      labels: {
        __metrics_path__: annotations[`${PREFIX}path`] ?? "/metrics",
        namespace,
        pod: name,
        app: labels["app.kubernetes.io/name"] ?? "",
        ...(labels["baton.dev/revision"] === undefined ? {} : { revision: labels["baton.dev/revision"] }),
      },
    });
  }
  return targets.sort((a, b) => (a.targets[0] ?? "").localeCompare(b.targets[0] ?? ""));
}
