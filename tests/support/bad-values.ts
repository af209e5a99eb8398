import { at, type BadManifest, md, STEPS } from "./model-deployments.ts";

// Times, numbers, names and addresses in manifests: what no cluster may take, and what it may.

export const BAD_VALUES: readonly BadManifest[] = [
  ...[
    ["a 30th of February", "2026-02-30T20:00:00Z"],
    ["a 29th of February in a common year", "2027-02-29T20:00:00Z"],
    ["a 29th of February in a century", "2100-02-29T20:00:00Z"],
    ["a 31st of June", "2026-06-31T20:00:00Z"],
    ["a day 0", "2026-06-00T20:00:00Z"],
    ["a month 13", "2026-13-01T00:00:00Z"],
    ["a month 0", "2026-00-01T00:00:00Z"],
    ["an hour 24", "2026-06-01T24:00:00Z"],
    ["an hour 25", "2026-06-01T25:00:00Z"],
    ["a minute 60", "2026-06-01T23:60:00Z"],
    ["a leap second", "2026-06-30T23:59:60Z"],
    ["another time zone", "2026-06-30T20:00:00+01:00"],
    ["no time zone", "2026-06-30T20:00:00"],
    ["another line", "2026-06-30T20:00:00Z\n"],
  ].map(([what, time]) =>
    md(`a window that ends at ${what}`, "spec.freezeWindows[0].to", "times such as", [
      "freezeWindows",
      [{ from: "2026-01-01T00:00:00Z", to: time }],
    ]),
  ),
  md("a window that begins at no time", "spec.freezeWindows[1].from", "times such as", [
    "freezeWindows",
    [
      { from: "2024-02-29T00:00:00Z", to: "2024-03-01T00:00:00Z" },
      { from: "2025-12-32T00:00:00Z", to: "2026-12-31T00:00:00Z" },
    ],
  ]),
  md("a window of no time", "spec.freezeWindows[0]", "from is before to", [
    "freezeWindows",
    [{ from: "2026-02-01T00:00:00Z", to: "2026-02-01T00:00:00Z" }],
  ]),
  ...["0s", "0d0h", "12h1d", "1h1h", "9999d", "99999999999999d"].map((duration) =>
    md(`a pause of ${duration}`, `spec.${STEPS}[1].pause.duration`, undefined, [
      `${STEPS}.1.pause.duration`,
      duration,
    ]),
  ),
  ...["1.5", "-0.1"].map((share) =>
    md(`a share of ${share}`, "spec.instruments[0].volumeShare", "from 0 to 1", [
      "instruments.0.volumeShare",
      share,
    ]),
  ),
  md("a limit with an unknown name", "spec.limits[0].query", "none of revision", [
    "limits",
    [{ name: "loss", query: 'x{r="{{revison}}"}', max: "1" }],
  ]),
  ...["0s", "999ms", "0d500ms", "12h1d", "1s1s", "1000000s"].map((interval) =>
    at(`an interval of ${interval}`, "spec.metrics[0].interval", undefined, ["metrics.0.interval", interval]),
  ),
  ...["0s", "0ms", "1m1h"].map((window) =>
    at(`a window of ${window}`, "spec.metrics[1].window", undefined, ["metrics.1.window", window]),
  ),
  at("a delay without order", "spec.metrics[0].initialDelay", "in the order d, h, m", [
    "metrics.0.initialDelay",
    "5s1m",
  ]),
  ...[
    "x{r='{{revison}}'}",
    "{{ Revision }}",
    "{{args.P99}}",
    "{{args.p-99}}",
    "{{args.9}}",
    "{{args}}",
    "{{}}",
    "{{revision}",
    "{{revision} }",
    "{{.revision}}",
    "{{toString}}",
    "x {{",
  ].map((query) =>
    at(`the name in ${query}`, "spec.metrics[1].provider.prometheus.query", "none of revision", [
      "metrics.1.provider.prometheus.query",
      query,
    ]),
  ),
  at("an unknown name in the query for samples", "prometheus.samplesQuery", "none of revision", [
    "metrics.0.provider.prometheus.samplesQuery",
    "count({{metric}})",
  ]),
  at("an unknown name in an address", "web.url", "none of revision", [
    "metrics.1.provider",
    { web: { url: "http://a/{{revison}}", jsonPath: "a" } },
  ]),
  ...["command", "args"].map((field) =>
    at(`an unknown name in a Job's ${field}`, `job.container.${field}[1]`, "none of revision", [
      "metrics.1.provider",
      { job: { container: { image: "a", [field]: ["{{revision}}", "{{revison}}"] } } },
    ]),
  ),
  at("an unknown name in a Job's environment", "job.container.env[0].value", "none of revision", [
    "metrics.1.provider",
    { job: { container: { image: "a", env: [{ name: "A", value: "{{revison}}" }] } } },
  ]),
  ...["http://user:pass@a/b", "http://user@a", "ftp://a", "mailto:a@b"].map((address) =>
    at(`the address ${address}`, "prometheus.address", "no user and password", [
      "metrics.0.provider.prometheus.address",
      address,
    ]),
  ),
  ...["https://user:pass@a/b", "file://a"].map((url) =>
    at(`the web address ${url}`, "web.url", "no user and password", [
      "metrics.1.provider",
      { web: { url, jsonPath: "a" } },
    ]),
  ),
  at("an excuse by the same number", "spec.metrics[0]", "{{revision}}", ["metrics.0.sharedCause", {}]),
  at(
    "an excuse for what is compared already",
    "spec.metrics[0]",
    "a bound that stable can break",
    ["metrics.0.sharedCause", {}],
    ["metrics.0.threshold", { maxAboveBaseline: "1" }],
    ["metrics.0.provider.prometheus.query", "x{r='{{revision}}'}"],
  ),
  at(
    "an excuse for a Job",
    "spec.metrics[1]",
    "needs a query or a url",
    ["metrics.1.sharedCause", {}],
    ["metrics.1.provider", { job: { container: { image: "{{revision}}" } } }],
  ),
];

/** What every cluster takes, and looks like what it does not. */
export const GOOD: readonly Omit<BadManifest, "field" | "says">[] = [
  ...["2028-02-29T23:59:59Z", "2400-02-29T00:00:00Z", "2026-12-31T00:00:00Z"].map((to) => ({
    kind: "ModelDeployment" as const,
    what: `a window to ${to}`,
    // One that is over is in many a file, and holds nothing.
    changes: [["freezeWindows", [{ from: "2001-01-01T00:00:00Z", to }]]] as const,
  })),
  ...["1d12h", "90s", "1500ms", "0d1s", "01m", "999d9999h"].map((interval) => ({
    kind: "AnalysisTemplate" as const,
    what: `an interval of ${interval}`,
    changes: [["metrics.0.interval", interval]] as const,
  })),
  ...[
    "histogram_quantile({{args.max}}, x)",
    "x{r=\"{{revision}}\", n='{{ namespace }}', d=`{{deployment}}`}[{{window}}]",
    "x{{{args.max}}}",
    'x{a="{b}"} # {',
  ].map((query) => ({
    kind: "AnalysisTemplate" as const,
    what: `the query ${query}`,
    changes: [
      ["metrics.1.provider.prometheus.query", query],
      ["args.0.value", "0"],
    ] as const,
  })),
  ...["http://a", "https://prometheus.example:9090/prometheus/", "http://a?tenant=b@c"].map((address) => ({
    kind: "AnalysisTemplate" as const,
    what: `the address ${address}`,
    changes: [["metrics.0.provider.prometheus.address", address]] as const,
  })),
  {
    kind: "AnalysisTemplate" as const,
    what: "an excuse by what stable suffers",
    changes: [
      ["metrics.0.sharedCause", { maxOfBaseline: "2" }],
      ["metrics.0.provider.prometheus.query", "x{r='{{revision}}'}"],
    ],
  },
];
