import type { Chart } from "cdk8s";
import { stringify } from "yaml";
import { addRole } from "./rights.ts";
import { addStateful } from "./stateful.ts";
import { imageOf, type Values } from "./values.ts";

const PROMETHEUS = { name: "prometheus", port: 9090 };
const ALERTMANAGER = { name: "alertmanager", port: 9093, gossip: 9094 };

/** Where services find Prometheus; undefined where the cluster itself says that. */
export function prometheusUrl({ prometheus, platformNamespace }: Values): string | undefined {
  if (prometheus.provide === "cluster") return undefined;
  return `http://${PROMETHEUS.name}.${platformNamespace}.svc:${PROMETHEUS.port}`;
}

export function addPrometheus(scope: Chart, values: Values): void {
  const { prometheus, namespace, platformNamespace } = values;
  if (prometheus.provide !== "single") return;
  addStateful(scope, {
    name: PROMETHEUS.name,
    image: imageOf(values, "prometheus"),
    command: [
      "prometheus",
      "--config.file=/etc/prometheus/prometheus.yaml",
      "--storage.tsdb.path=/var/lib/prometheus",
      `--storage.tsdb.retention.time=${prometheus.retentionDays}d`,
      // The disk is full before the time is over: the oldest goes, not the newest.
      `--storage.tsdb.retention.size=${Math.max(1, Math.floor((prometheus.storageGibibytes ?? 2) * 0.8))}GB`,
    ],
    ports: [{ name: "http", number: PROMETHEUS.port }],
    paths: { ready: "/-/ready", live: "/-/healthy" },
    files: { "prometheus.yaml": stringify(configuration(values)), "alerts.yaml": stringify(ALERTS) },
    filesAt: "/etc/prometheus",
    dataAt: "/var/lib/prometheus",
    storageGibibytes: prometheus.storageGibibytes,
    resources: prometheus.resources,
    usesApi: true,
  });
  // It finds the pods of one namespace, and nothing else.
  addRole(scope, {
    of: PROMETHEUS.name,
    accountNamespace: platformNamespace,
    namespace,
    rules: [{ apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch"] }],
    wave: "platform",
  });
  const { replicas, resources } = prometheus.alertmanager;
  const peers = Array.from(
    { length: replicas },
    (_, i) =>
      `--cluster.peer=${ALERTMANAGER.name}-${i}.${ALERTMANAGER.name}.${platformNamespace}.svc:${ALERTMANAGER.gossip}`,
  );
  addStateful(scope, {
    name: ALERTMANAGER.name,
    image: imageOf(values, "alertmanager"),
    replicas,
    command: [
      "alertmanager",
      "--config.file=/etc/alertmanager/alertmanager.yaml",
      "--storage.path=/var/lib/alertmanager",
      ...(replicas > 1 ? peers : ["--cluster.listen-address="]),
    ],
    ports: [
      { name: "http", number: ALERTMANAGER.port },
      ...(replicas > 1 ? [{ name: "gossip", number: ALERTMANAGER.gossip }] : []),
    ],
    paths: { ready: "/-/ready", live: "/-/healthy" },
    files: {
      "alertmanager.yaml": stringify({
        route: { receiver: "nobody", group_by: ["alertname", "namespace"] },
        receivers: [{ name: "nobody" }],
      }),
    },
    filesAt: "/etc/alertmanager",
    dataAt: "/var/lib/alertmanager",
    storageGibibytes: undefined,
    resources,
  });
}

/** Reads the pods that say so, and adds what analyses ask by: namespace, pod, app, revision. */
function configuration({ prometheus, namespace, platformNamespace }: Values): object {
  const interval = prometheus.provide === "single" ? prometheus.scrapeInterval : "15s";
  const annotation = (name: string) => `__meta_kubernetes_pod_annotation_prometheus_io_${name}`;
  return {
    global: { scrape_interval: interval, scrape_timeout: interval, evaluation_interval: interval },
    rule_files: ["/etc/prometheus/alerts.yaml"],
    alerting: {
      alertmanagers: [
        {
          dns_sd_configs: [
            {
              names: [`${ALERTMANAGER.name}.${platformNamespace}.svc`],
              type: "A",
              port: ALERTMANAGER.port,
            },
          ],
        },
      ],
    },
    scrape_configs: [
      {
        job_name: "pods",
        kubernetes_sd_configs: [{ role: "pod", namespaces: { names: [namespace] } }],
        relabel_configs: [
          { source_labels: [annotation("scrape")], regex: "true", action: "keep" },
          { source_labels: [annotation("path")], regex: "(.+)", target_label: "__metrics_path__" },
          {
            source_labels: ["__meta_kubernetes_pod_ip", annotation("port")],
            separator: ":",
            target_label: "__address__",
          },
          { source_labels: ["__meta_kubernetes_namespace"], target_label: "namespace" },
          { source_labels: ["__meta_kubernetes_pod_name"], target_label: "pod" },
          { source_labels: ["__meta_kubernetes_pod_label_app_kubernetes_io_name"], target_label: "app" },
          { source_labels: ["__meta_kubernetes_pod_label_baton_dev_revision"], target_label: "revision" },
        ],
      },
    ],
  };
}

/** What somebody has to look at; each says what it means for the trading. */
const ALERTS = {
  groups: [
    {
      name: "baton",
      rules: [
        alert(
          "OperatorSilent",
          'max(baton_operator_watch_silence_seconds) > 60 or absent(up{app="operator"} == 1)',
          "1m",
          {
            severity: "critical",
            summary: "No operator looks at releases: none goes on, and none is taken back.",
          },
        ),
        alert("Halted", "max by (namespace) (baton_halted) > 0", "0s", {
          severity: "critical",
          summary: "The kill switch is on: decisions are withheld.",
        }),
        alert(
          "ReleaseTakenBack",
          'increase(baton_release_seconds_count{status="RolledBack"}[10m]) > 0',
          "0s",
          {
            severity: "warning",
            summary: "A release did harm and was taken back; its history says why.",
          },
        ),
        alert("FarBehind", "max by (namespace, app, revision) (baton_bus_lag_records) > 10000", "2m", {
          severity: "warning",
          summary: "Decisions are made on messages that are old.",
        }),
        alert("DeadLetters", "sum by (namespace, code) (rate(baton_dead_letters_total[5m])) > 1", "5m", {
          severity: "warning",
          summary: "Messages cannot be read; they wait among the dead letters.",
        }),
      ],
    },
  ],
};

function alert(name: string, expr: string, lasting: string, about: { severity: string; summary: string }) {
  return {
    alert: `Baton${name}`,
    expr,
    for: lasting,
    labels: { severity: about.severity },
    annotations: { summary: about.summary },
  };
}
