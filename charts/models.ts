import { ApiObject, type Chart } from "cdk8s";
import { GROUP, VERSION } from "#operators/model-deployment/api/crd.ts";
import { INSTRUMENTS } from "#runtime/market/instruments.ts";
import { PART_OF } from "./labels.ts";
import { ENDPOINTS } from "./platform.ts";
import { imageOf, type Values } from "./values.ts";
import { inWave } from "./waves.ts";

// What a team writes itself: which model decides on which instruments, how a new one comes in, what counts as harm.

const SET = "crypto";

/** Ready-made: what is wrong with a revision that any service built on the runtime shows. */
export function addAnalysisTemplates(scope: Chart, { analysis }: Values): void {
  const { interval, window, maxP99Seconds } = analysis;
  const labels = `namespace="{{namespace}}",revision="{{revision}}"`;
  const rate = (metric: string, more = "") => `sum(rate(${metric}{${labels}${more}}[{{window}}]))`;
  const outcomes = rate("baton_outcomes_total");
  const rejected = rate("baton_outcomes_total", ',kind="rejected"');
  const template = (name: string, metric: object, range = window) =>
    add(scope, "AnalysisTemplate", name, {
      metrics: [{ name: "value", interval, window: range, inconclusiveLimit: 20, ...metric }],
    });
  const prometheus = (query: string, samplesQuery?: string) => ({
    prometheus: { query, ...(samplesQuery === undefined ? {} : { samplesQuery }) },
  });

  // What stable suffers as well is no fault of the release's: it holds. What is clearly worse than a stable that suffers is.
  template("error-rate", {
    threshold: { max: "0.01" },
    sharedCause: { maxAboveBaseline: "0.05" },
    minSamples: 100,
    provider: prometheus(
      `${rejected} / ${outcomes} or (0 * ${outcomes})`,
      `sum(increase(baton_outcomes_total{${labels}}[{{window}}]))`,
    ),
  });
  template("p99-latency", {
    threshold: { max: maxP99Seconds },
    sharedCause: { maxOfBaseline: "5" },
    // What it caught up with when it began is not to be in the window, and one slow moment is no harm yet.
    initialDelay: window,
    failureLimit: 3,
    minSamples: 100,
    provider: prometheus(
      `histogram_quantile(0.99, sum(rate(baton_signal_end_to_end_seconds_bucket{${labels}}[{{window}}])) by (le))`,
      `sum(increase(baton_signal_end_to_end_seconds_count{${labels}}[{{window}}]))`,
    ),
  });
  template("consumer-lag-growth", {
    threshold: { max: "100" },
    sharedCause: { maxOfBaseline: "3" },
    failureLimit: 3,
    provider: prometheus(`sum(deriv(baton_bus_lag_records{${labels}}[{{window}}]))`),
  });
  template("dead-letter-rate", {
    threshold: { maxAboveBaseline: "0.1" },
    provider: prometheus(`${rejected} or (0 * ${outcomes})`),
  });
  template(
    "circuit-breaker-trips",
    {
      threshold: { max: "5" },
      sharedCause: { maxAboveBaseline: "5" },
      provider: prometheus(`sum(increase(baton_circuit_breaker_trips_total{${labels}}[{{window}}]))`),
    },
    "1h",
  );
}

/** The simulated market's instruments. */
export function addInstruments(scope: Chart): void {
  const sum = INSTRUMENTS.reduce((total, { share }) => total + share, 0);
  add(scope, "InstrumentSet", SET, {
    instruments: INSTRUMENTS.map(({ symbol, tier, share }) => ({
      symbol,
      tier,
      volumeShare: (share / sum).toFixed(4),
    })),
  });
}

/** The signal model: BTCUSDT first, then by volume from low to all. */
export function addSignalModel(scope: Chart, values: Values): void {
  const { signalModel, logLevel, marketData, analysis } = values;
  const { deployment, model, replicas, stepPause } = signalModel;
  const pause = { pause: { duration: stepPause } };
  add(scope, "ModelDeployment", deployment, {
    model: { name: model.name, version: model.version, uri: model.uri, digest: model.digest },
    replicas,
    template: {
      metadata: {
        annotations: {
          "prometheus.io/scrape": "true",
          "prometheus.io/port": "8080",
          "prometheus.io/path": "/metrics",
        },
      },
      spec: {
        containers: [
          {
            name: "main",
            image: imageOf(values, "signal-model"),
            env: [
              { name: "HTTP_HOST", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
              { name: "LOG_LEVEL", value: logLevel },
            ],
            envFrom: [{ configMapRef: { name: ENDPOINTS } }],
            ports: [{ name: "http", containerPort: 8080 }],
            startupProbe: {
              httpGet: { path: "/readyz", port: "http" },
              periodSeconds: 1,
              failureThreshold: 60,
              timeoutSeconds: 3,
            },
            readinessProbe: {
              httpGet: { path: "/readyz", port: "http" },
              periodSeconds: 5,
              timeoutSeconds: 3,
            },
            livenessProbe: {
              httpGet: { path: "/livez", port: "http" },
              periodSeconds: 10,
              timeoutSeconds: 3,
            },
            resources: {
              requests: { cpu: "200m", memory: "192Mi" },
              limits: { cpu: "2", memory: "512Mi" },
            },
          },
        ],
      },
    },
    stream: { topics: [marketData.topic] },
    instrumentSetRef: { name: SET },
    strategy: {
      canary: {
        steps: [
          { setInstruments: { symbols: ["BTCUSDT"] } },
          pause,
          { setInstruments: { tier: "low" } },
          pause,
          { setInstruments: { tier: "medium" } },
          pause,
          { setInstruments: { all: true } },
        ],
      },
    },
    analysis: { startingStep: 1, templates: analysis.templates.map((name) => ({ name })) },
  });
}

function add(scope: Chart, kind: string, name: string, spec: object): void {
  new ApiObject(scope, `${kind}-${name}`, {
    apiVersion: `${GROUP}/${VERSION}`,
    kind,
    metadata: {
      name,
      labels: { [PART_OF]: "baton" },
      annotations: inWave("models"),
    },
    spec,
  });
}
