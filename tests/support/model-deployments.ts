// ModelDeployments and templates for tests.

type Spec = Record<string, unknown>;

export const DIGEST = `sha256:${"a1".repeat(32)}`;

/** A good ModelDeployment's spec. */
export function goodSpec(): Spec & Record<string, never> {
  return structuredClone({
    model: { name: "echo", version: "1.0.0", uri: "https://models.example/echo/1.0.0", digest: DIGEST },
    template: {
      metadata: { labels: { team: "alpha" } },
      spec: {
        containers: [
          {
            name: "main",
            image: "registry.example/signal-model@sha256:1",
            env: [{ name: "LOG_LEVEL", value: "info" }],
            envFrom: [{ configMapRef: { name: "endpoints" } }],
            ports: [{ name: "http", containerPort: 8080 }],
            readinessProbe: { httpGet: { path: "/readyz", port: "http" } },
            resources: { requests: { cpu: "100m", memory: "128Mi" } },
          },
        ],
      },
    },
    replicas: 2,
    stream: { topics: ["md.crypto.main"] },
    instruments: [
      { symbol: "BTCUSDT", tier: "high", volumeShare: "0.4" },
      { symbol: "ETHUSDT", tier: "high" },
      { symbol: "XRPUSDT", tier: "medium" },
      { symbol: "UNIUSDT", tier: "low" },
    ],
    strategy: {
      canary: {
        steps: [
          { setInstruments: { symbols: ["BTCUSDT"] } },
          { pause: { duration: "1h" } },
          { setInstruments: { tier: "low" } },
          { analysis: { templates: [{ name: "error-rate" }] } },
          { setInstruments: { all: true } },
        ],
      },
    },
    analysis: {
      templates: [{ name: "error-rate", args: [{ name: "max", value: "0.01" }] }],
      startingStep: 1,
    },
  }) as unknown as Spec & Record<string, never>;
}

/** BTCUSDT first, then everything. */
export function shortCanary(pause: string): Record<string, Spec> {
  const steps = [
    { setInstruments: { symbols: ["BTCUSDT"] } },
    { pause: { duration: pause } },
    { setInstruments: { all: true } },
  ];
  return { canary: { steps } };
}

/** A good AnalysisTemplate's spec. */
export function goodTemplate(): Spec {
  return {
    args: [{ name: "max", value: "0.01" }],
    metrics: [
      {
        name: "errors",
        interval: "1s",
        threshold: { max: "0.01" },
        minSamples: 10,
        provider: { prometheus: { query: "sum(x)", samplesQuery: "count(x)" } },
      },
      {
        name: "latency",
        successCondition: "result < 0.2 && result < baseline * 1.5",
        provider: { prometheus: { query: "histogram_quantile(0.99, x)" } },
      },
    ],
  };
}

/** Sets or (with undefined) takes away a field by its path, such as strategy.canary.steps.0.pause. */
export function change(spec: Spec, path: string, value: unknown): Spec {
  const parts = path.split(".");
  const last = parts.pop() as string;
  let inner: Record<string, unknown> = spec;
  for (const part of parts) inner = inner[part] as Record<string, unknown>;
  if (value === undefined) delete inner[last];
  else inner[last] = value;
  return spec;
}

export const STEPS = "strategy.canary.steps";
const MAIN = "template.spec.containers.0";

export interface BadManifest {
  readonly kind: "ModelDeployment" | "AnalysisTemplate" | "InstrumentSet";
  readonly what: string;
  readonly changes: readonly (readonly [path: string, value: unknown])[];
  /** Part of the API server's sentence, which names the field. */
  readonly field: string;
  readonly says?: string;
}

export const md = (
  what: string,
  field: string,
  says: string | undefined,
  ...changes: readonly (readonly [string, unknown])[]
): BadManifest => ({
  kind: "ModelDeployment",
  what,
  changes,
  field,
  ...(says === undefined ? {} : { says }),
});
export const at = (
  what: string,
  field: string,
  says: string | undefined,
  ...changes: readonly (readonly [string, unknown])[]
): BadManifest => ({
  kind: "AnalysisTemplate",
  what,
  changes,
  field,
  ...(says === undefined ? {} : { says }),
});

const oneOf = "exactly one of";
const noInstruments = [["instruments", undefined]] as const;

/** Manifests that no cluster may take. */
export const BAD: readonly BadManifest[] = [
  md("no model", "spec.model", undefined, ["model", undefined]),
  md("no digest", "spec.model.digest", undefined, ["model.digest", undefined]),
  md("a digest that is none", "spec.model.digest", undefined, ["model.digest", "latest"]),
  md("a digest in upper case", "spec.model.digest", undefined, ["model.digest", DIGEST.toUpperCase()]),
  md("no address", "spec.model.uri", undefined, ["model.uri", undefined]),
  md("an unknown format", "spec.model.format", undefined, ["model.format", "pickle"]),
  md("an empty version", "spec.model.version", undefined, ["model.version", ""]),
  md("half a feature view", "spec.model.featureView.version", undefined, [
    "model.featureView",
    { name: "ticks" },
  ]),
  md("no template", "spec.template", undefined, ["template", undefined]),
  md("no container", "spec.template.spec.containers", undefined, ["template.spec.containers", []]),
  md("two containers of one name", "spec.template.spec.containers[1]", undefined, [
    "template.spec.containers",
    [
      { name: "main", image: "a" },
      { name: "main", image: "b" },
    ],
  ]),
  md("no image", "spec.template.spec.containers[0].image", undefined, [`${MAIN}.image`, undefined]),
  md("a variable twice", "env[1]", undefined, [
    `${MAIN}.env`,
    [
      { name: "A", value: "1" },
      { name: "A", value: "2" },
    ],
  ]),
  md("a variable of the operator's", "env[0]", "set by the operator", [
    `${MAIN}.env`,
    [{ name: "REVISION", value: "x" }],
  ]),
  md("a variable from two places", "env[0]", "not both", [
    `${MAIN}.env`,
    [{ name: "A", value: "1", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } }],
  ]),
  md("a variable from nowhere", "valueFrom", oneOf, [`${MAIN}.env`, [{ name: "A", valueFrom: {} }]]),
  md("an environment from two places", "envFrom[0]", oneOf, [
    `${MAIN}.envFrom`,
    [{ configMapRef: { name: "a" }, secretRef: { name: "b" } }],
  ]),
  md("a port that is none", "containerPort", undefined, [`${MAIN}.ports.0.containerPort`, 70_000]),
  md("a probe without a path", "readinessProbe.httpGet.path", undefined, [
    `${MAIN}.readinessProbe.httpGet`,
    { port: "http" },
  ]),
  md("a quantity that is none", "resources.requests.cpu", undefined, [
    `${MAIN}.resources.requests.cpu`,
    "much",
  ]),
  md("a volume of two kinds", "volumes[0]", oneOf, [
    "template.spec.volumes",
    [{ name: "v", configMap: { name: "c" }, emptyDir: {} }],
  ]),
  md("a relative mount", "mountPath", undefined, [`${MAIN}.volumeMounts`, [{ name: "v", mountPath: "tmp" }]]),
  md("a label of the operator's", "template.metadata.labels", "set by the operator", [
    "template.metadata.labels",
    { "baton.dev/revision": "x" },
  ]),
  md("a label that selectors use", "template.metadata.labels", "set by the operator", [
    "template.metadata.labels",
    { "app.kubernetes.io/name": "other" },
  ]),
  md("an account in another namespace", "serviceAccountName", undefined, [
    "template.spec.serviceAccountName",
    "kube-system/admin",
  ]),
  md("negative replicas", "spec.replicas", undefined, ["replicas", -1]),
  md("too many replicas", "spec.replicas", undefined, ["replicas", 5_000]),
  md("replicas as text", "spec.replicas", undefined, ["replicas", "two"]),
  md("no deadline", "spec.progressDeadlineSeconds", undefined, ["progressDeadlineSeconds", 0]),
  md("a negative history", "spec.revisionHistoryLimit", undefined, ["revisionHistoryLimit", -1]),
  md("paused as text", "spec.paused", undefined, ["paused", "yes"]),
  md("a stream without topics", "spec.stream.topics", undefined, ["stream.topics", []]),
  md("a topic with a space", "spec.stream.topics[0]", undefined, ["stream.topics", ["my topic"]]),
  md("a topic twice", "spec.stream.topics[1]", undefined, ["stream.topics", ["a", "a"]]),
  md("a stream's name with a slash", "spec.stream.name", undefined, ["stream.name", "other/thing"]),
  md("no time to let go", "spec.stream.releaseSeconds", undefined, ["stream.releaseSeconds", 0]),
  md(
    "a stream without instruments",
    "spec",
    "exactly one of instruments and instrumentSetRef",
    ...noInstruments,
  ),
  md("instruments from two places", "spec", "exactly one of instruments and instrumentSetRef", [
    "instrumentSetRef",
    { name: "all" },
  ]),
  md("instruments without a stream", "spec", "instruments mean nothing without stream", [
    "stream",
    undefined,
  ]),
  md("an instrument twice", "spec.instruments[4]", undefined, [
    "instruments.4",
    { symbol: "BTCUSDT", tier: "low" },
  ]),
  md("an instrument in lower case", "spec.instruments[0].symbol", undefined, [
    "instruments.0.symbol",
    "btcusdt",
  ]),
  md("an unknown tier", "spec.instruments[0].tier", undefined, ["instruments.0.tier", "huge"]),
  md("a share that is no number", "spec.instruments[0].volumeShare", undefined, [
    "instruments.0.volumeShare",
    "half",
  ]),
  md("a share below nothing", "spec.instruments[0].volumeShare", "from 0 to 1", [
    "instruments.0.volumeShare",
    "-0.5",
  ]),
  md("a set in another namespace", "spec.instrumentSetRef.name", undefined, ...noInstruments, [
    "instrumentSetRef",
    { name: "other/all" },
  ]),
  md("no strategy", "spec.strategy", undefined, ["strategy", undefined]),
  md("an empty strategy", "spec.strategy", oneOf, ["strategy", {}]),
  md("two strategies", "spec.strategy", oneOf, ["strategy.blueGreen", {}]),
  md("a step with nothing", `spec.${STEPS}[0]`, "exactly one of", [`${STEPS}.0`, {}]),
  md("a step with two things", `spec.${STEPS}[0]`, "exactly one of", [`${STEPS}.0.pause`, {}]),
  md("a step that names nothing", `spec.${STEPS}[0].setInstruments`, oneOf, [
    `${STEPS}.0.setInstruments`,
    {},
  ]),
  md("a step that names two kinds", `spec.${STEPS}[0].setInstruments`, oneOf, [
    `${STEPS}.0.setInstruments.all`,
    true,
  ]),
  md("a step that names no symbol", `spec.${STEPS}[0].setInstruments.symbols`, undefined, [
    `${STEPS}.0.setInstruments.symbols`,
    [],
  ]),
  md("a step with an unknown symbol", "spec", "not among the instruments", [
    `${STEPS}.0.setInstruments.symbols`,
    ["ADAUSDT"],
  ]),
  md(
    "a step with a tier that nothing has",
    "spec",
    "tier that no instrument has",
    [`${STEPS}.2.setInstruments.tier`, "medium"],
    ["instruments.2.tier", "low"],
  ),
  md("a step with an unknown tier", `spec.${STEPS}[2].setInstruments.tier`, undefined, [
    `${STEPS}.2.setInstruments.tier`,
    "huge",
  ]),
  md("a step with no share", `spec.${STEPS}[2].setInstruments`, "above 0 and at most 1", [
    `${STEPS}.2.setInstruments`,
    { volumeShare: "0" },
  ]),
  md("a step with more than everything", `spec.${STEPS}[2].setInstruments`, "above 0 and at most 1", [
    `${STEPS}.2.setInstruments`,
    { volumeShare: "1.5" },
  ]),
  md("all as false", `spec.${STEPS}[4].setInstruments.all`, undefined, [
    `${STEPS}.4.setInstruments.all`,
    false,
  ]),
  md("weights that fall", "spec.strategy.canary", "weights do not fall", [
    STEPS,
    [{ setWeight: 50 }, { setWeight: 20 }],
  ]),
  md("weights and instruments", "spec.strategy.canary", "not both", [`${STEPS}.5`, { setWeight: 50 }]),
  md("a weight above 100", `spec.${STEPS}[0].setWeight`, undefined, [STEPS, [{ setWeight: 101 }]]),
  md("a weight of nothing", `spec.${STEPS}[0].setWeight`, undefined, [STEPS, [{ setWeight: 0 }]]),
  md("steps that move nothing", "spec.strategy.canary", "steps move nothing", [STEPS, [{ pause: {} }]]),
  md(
    "instruments in the steps of no stream",
    "spec",
    "setInstruments needs stream",
    ["stream", undefined],
    ...noInstruments,
  ),
  md("a pause without a unit", `spec.${STEPS}[1].pause.duration`, undefined, [
    `${STEPS}.1.pause.duration`,
    "60",
  ]),
  md("an analysis without templates", `spec.${STEPS}[3].analysis.templates`, undefined, [
    `${STEPS}.3.analysis.templates`,
    [],
  ]),
  md("a template in another namespace", "templates[0].name", undefined, [
    "analysis.templates.0.name",
    "other/errors",
  ]),
  md("a template twice", "spec.analysis.templates[1]", undefined, [
    "analysis.templates",
    [{ name: "a" }, { name: "a" }],
  ]),
  md("a canary of no replicas", "setCanaryScale.replicas", undefined, [
    `${STEPS}.1`,
    { setCanaryScale: { replicas: 0 } },
  ]),
  md("a window that ends before it begins", "spec.freezeWindows[0]", "from is before to", [
    "freezeWindows",
    [{ from: "2026-02-01T00:00:00Z", to: "2026-01-01T00:00:00Z" }],
  ]),
  md("a window in other words", "spec.freezeWindows[0]", "times such as", [
    "freezeWindows",
    [{ from: "Friday", to: "Monday" }],
  ]),
  md("a gate that stands nowhere", "spec.gates[0].before", undefined, [
    "gates",
    [{ name: "desk", before: "Lunch" }],
  ]),
  md("a gate that nobody opens", "spec.gates[0].approvals", undefined, [
    "gates",
    [{ name: "desk", approvals: 0 }],
  ]),
  md("a gate twice", "spec.gates[1]", undefined, ["gates", [{ name: "desk" }, { name: "desk" }]]),
  md("a limit that is no number", "spec.limits[0].max", undefined, [
    "limits",
    [{ name: "loss", query: "x", max: "much" }],
  ]),
  md("a rollback window of none", "spec.rollbackWindow.revisions", undefined, [
    "rollbackWindow",
    { revisions: 0 },
  ]),
  at("no metric", "spec.metrics", undefined, ["metrics", []]),
  at("a metric twice", "spec.metrics[1]", undefined, ["metrics.1.name", "errors"]),
  at(
    "no provider",
    "spec.metrics[0].provider",
    undefined,
    ["metrics.0.provider", undefined],
    ["metrics.0.minSamples", undefined],
  ),
  at("two providers", "spec.metrics[0].provider", oneOf, [
    "metrics.0.provider.web",
    { url: "http://a", jsonPath: "a" },
  ]),
  at("nothing that is harm", "spec.metrics[1]", "say what harm is", [
    "metrics.1.successCondition",
    undefined,
  ]),
  at("a threshold and a condition", "spec.metrics[0]", "not both", [
    "metrics.0.failureCondition",
    "result > 1.0",
  ]),
  at("a threshold of nothing", "spec.metrics[0].threshold", "at least one bound", [
    "metrics.0.threshold",
    {},
  ]),
  at("a threshold that is no number", "spec.metrics[0].threshold.max", undefined, [
    "metrics.0.threshold.max",
    "1 %",
  ]),
  at("samples that nobody counts", "spec.metrics[0]", "samplesQuery", [
    "metrics.0.provider.prometheus.samplesQuery",
    undefined,
  ]),
  at("an interval that is too short", "spec.metrics[0]", "at least 1s", ["metrics.0.interval", "100ms"]),
  at("an interval that is none", "spec.metrics[0].interval", undefined, ["metrics.0.interval", "soon"]),
  at("a negative limit", "spec.metrics[0].failureLimit", undefined, ["metrics.0.failureLimit", -1]),
  at("a path into JSON with a dollar", "web.jsonPath", undefined, [
    "metrics.1.provider",
    { web: { url: "http://a", jsonPath: "$.a" } },
  ]),
  at("a Job and a web address", "spec.metrics[1].provider", oneOf, [
    "metrics.1.provider",
    { web: { url: "http://a", jsonPath: "a" }, job: { container: { image: "a" } } },
  ]),
  at("a Job without an image", "job.container.image", undefined, [
    "metrics.1.provider",
    { job: { container: { args: ["a"] } } },
  ]),
  at("a Job that may take for ever", "job.timeoutSeconds", undefined, [
    "metrics.1.provider",
    { job: { container: { image: "a" }, timeoutSeconds: 90_000 } },
  ]),
  at("a Job with a volume of the host", "job", undefined, [
    "metrics.1.provider",
    { job: { container: { image: "a" }, volumes: [{ hostPath: { path: "/" } }] } },
  ]),
  at("an argument in upper case", "spec.args[0].name", undefined, ["args.0.name", "MAX"]),
];
