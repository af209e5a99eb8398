import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { LocalError, messageOf } from "./errors.ts";
import { downCluster, upCluster } from "./lifecycle.ts";
import { queryPrometheus, queryValue } from "./prometheus.ts";
import { type ClusterState, REPOSITORY } from "./state.ts";
import { exec } from "./toolchain/exec.ts";
import { ensureToolchain, toolPath } from "./toolchain/index.ts";
import { type PodView, podViews } from "./view.ts";

// Starts the local cluster, deploys the services through its API server and shows the stream live, until Ctrl-C
// or for --seconds.

const USAGE = `npm run demo -- [--name NAME] [--seconds N] [--json]

  --name NAME    which local cluster (default demo)
  --seconds N    end by itself after N seconds of streaming (default: until Ctrl-C)
  --json         print one JSON object a second instead of a screen`;

interface Frame {
  readonly messagesPerSecond: number | undefined;
  readonly signalsPerSecond: number | undefined;
  readonly latencyMs: {
    readonly p50: number | undefined;
    readonly p95: number | undefined;
    readonly p99: number | undefined;
  };
  readonly lag: number | undefined;
  readonly featureReadsPerSecond: number | undefined;
  readonly featureReadP99Ms: number | undefined;
  readonly deadLetters: number | undefined;
  readonly memory: readonly { readonly pod: string; readonly megabytes: number }[];
  readonly pods: readonly PodView[];
}

const WINDOW = "10s";
const FIRST_DECISION_TIMEOUT_MS = 120_000;

const { values } = parseArgs({
  options: {
    name: { type: "string", default: "demo" },
    seconds: { type: "string" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});

async function frame(state: ClusterState): Promise<Frame> {
  const ask = (query: string) => queryValue(state.ports.prometheus, query).catch(() => undefined);
  const quantile = async (q: number) =>
    ask(
      `1000 * histogram_quantile(${q}, sum(rate(baton_signal_end_to_end_seconds_bucket[${WINDOW}])) by (le))`,
    );
  const [
    messagesPerSecond,
    signalsPerSecond,
    p50,
    p95,
    p99,
    lag,
    featureReadsPerSecond,
    featureRead,
    deadLetters,
    memory,
    pods,
  ] = await Promise.all([
    ask(`sum(rate(baton_market_data_messages_total[${WINDOW}]))`),
    ask(`sum(rate(baton_signals_total[${WINDOW}]))`),
    quantile(0.5),
    quantile(0.95),
    quantile(0.99),
    ask(`sum(baton_bus_lag_records{app="signal-model"})`),
    ask(`sum(rate(baton_features_reads_total[${WINDOW}]))`),
    ask(
      `1000 * histogram_quantile(0.99, sum(rate(baton_features_command_seconds_bucket{operation="read"}[${WINDOW}])) by (le))`,
    ),
    ask("sum(baton_dead_letters_total)"),
    queryPrometheus(state.ports.prometheus, "process_resident_memory_bytes").catch(() => []),
    podViews(state).catch(() => []),
  ]);
  return {
    messagesPerSecond,
    signalsPerSecond,
    latencyMs: { p50, p95, p99 },
    lag,
    featureReadsPerSecond,
    featureReadP99Ms: featureRead,
    deadLetters: deadLetters ?? 0,
    memory: memory.map(({ labels, value }) => ({
      pod: labels["pod"] ?? "",
      megabytes: Math.round(value / 2 ** 20),
    })),
    pods,
  };
}

function draw(state: ClusterState, current: Frame, seconds: number, firstDecisionMs: number): string {
  const number = (value: number | undefined, digits = 0) =>
    value === undefined
      ? "-"
      : value.toLocaleString("en-US", { maximumFractionDigits: digits, minimumFractionDigits: digits });
  const memory = new Map(current.memory.map((entry) => [entry.pod, entry.megabytes]));
  const { p50, p95, p99 } = current.latencyMs;
  return [
    `Baton demo · cluster ${state.name} · ${seconds} s · first decision ${(firstDecisionMs / 1000).toFixed(1)} s after start`,
    "",
    `  market data    ${number(current.messagesPerSecond).padStart(8)} messages/s on 20 instruments`,
    `  signals        ${number(current.signalsPerSecond).padStart(8)} /s      dead letters ${number(current.deadLetters)}`,
    `  end to end     p50 ${number(p50)} ms   p95 ${number(p95)} ms   p99 ${number(p99)} ms`,
    `  lag            ${number(current.lag).padStart(8)} records`,
    `  feature reads  ${number(current.featureReadsPerSecond).padStart(8)} /s      p99 ${number(current.featureReadP99Ms, 1)} ms`,
    "",
    `  ${"POD".padEnd(36)}${"PHASE".padEnd(12)}${"READY".padEnd(7)}${"RESTARTS".padStart(8)}${"MB".padStart(7)}`,
    ...current.pods.map(
      (pod) =>
        `  ${pod.name.padEnd(36)}${pod.phase.padEnd(12)}${(pod.ready ? "yes" : "no").padEnd(7)}${String(pod.restarts).padStart(8)}${String(memory.get(pod.name) ?? "-").padStart(7)}`,
    ),
    "",
    `  Prometheus  http://127.0.0.1:${state.ports.prometheus}      kubectl  export KUBECONFIG=${join(state.folder, "pki/admin.kubeconfig")}`,
    "  Ctrl-C stops everything.",
  ].join("\n");
}

async function main(): Promise<void> {
  const started = Date.now();
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => stop.abort());
  const progress = (line: string) => console.error(line);
  const toolchain = await ensureToolchain({ progress });
  const warmStart = Date.now();
  const state = await upCluster(values.name, progress);
  try {
    if (stop.signal.aborted) return;
    await deploy(state, toolPath(toolchain, "kubectl"));
    progress("services deployed; waiting for the first decision ...");
    await giveOwnership(state, stop.signal);
    await firstDecision(state, stop.signal);
    const firstDecisionMs = Date.now() - warmStart;
    if (stop.signal.aborted) return;
    progress(`first decision ${(firstDecisionMs / 1000).toFixed(1)} s after the start`);
    await show(state, firstDecisionMs, stop.signal);
  } finally {
    progress("stopping ...");
    await downCluster(values.name);
    progress(`stopped after ${((Date.now() - started) / 1000).toFixed(0)} s`);
  }
}

async function deploy(state: ClusterState, kubectl: string): Promise<void> {
  const manifests = join(REPOSITORY, "clusters/local/manifests");
  const config = join(state.folder, "pki/admin.kubeconfig");
  const args = ["--kubeconfig", config, "apply", "--server-side", "--force-conflicts", "-f", manifests];
  const result = await exec(kubectl, args);
  if (result.code !== 0)
    throw new LocalError("MANIFEST_REJECTED", `kubectl apply failed:\n${result.tail.join("\n")}`);
}

/** Makes the deployed revision the one that decides, as the operator will do; until then all it does is shadow. */
async function giveOwnership(state: ClusterState, signal: AbortSignal): Promise<void> {
  const file = join(REPOSITORY, "clusters/local/manifests/signal-model.yaml");
  const text = await readFile(file, "utf8");
  const variable = (name: string) => new RegExp(`name: ${name}\\s+value: (\\S+)`).exec(text)?.[1] ?? "";
  const move = ["move", "*", "--to", variable("REVISION"), "--deployment", variable("DEPLOYMENT"), "--json"];
  const args = [join(REPOSITORY, "apps/baton/main.ts"), ...move];
  const deadline = Date.now() + FIRST_DECISION_TIMEOUT_MS;
  const env = { KAFKA_BROKERS: `127.0.0.1:${state.ports.kafka}` };
  while (!signal.aborted) {
    // Refused until its pods have begun.
    const result = await exec(process.execPath, args, { env, signal }).catch(() => undefined);
    if (result?.code === 0 || signal.aborted) return;
    if (Date.now() > deadline) {
      throw new LocalError("NOT_READY", `the model could not be made the owner:\n${result?.tail.join("\n")}`);
    }
    await sleep(250, undefined, { signal }).catch(() => {});
  }
}

async function firstDecision(state: ClusterState, signal: AbortSignal): Promise<void> {
  const deadline = Date.now() + FIRST_DECISION_TIMEOUT_MS;
  while (!signal.aborted) {
    const signals = await queryValue(
      state.ports.prometheus,
      'sum(baton_outcomes_total{action="live"})',
    ).catch(() => undefined);
    if ((signals ?? 0) > 0) return;
    if (Date.now() > deadline) {
      const pods = (await podViews(state))
        .map((pod) => `${pod.name}: ${pod.phase} ${pod.reason ?? ""}`)
        .join("; ");
      throw new LocalError(
        "NOT_READY",
        `no decision after ${FIRST_DECISION_TIMEOUT_MS / 1000} s (${pods}); look at: npm run cluster -- logs signal-model --name ${state.name}`,
      );
    }
    await sleep(250, undefined, { signal }).catch(() => {});
  }
}

async function show(state: ClusterState, firstDecisionMs: number, signal: AbortSignal): Promise<void> {
  const limit = values.seconds === undefined ? Number.POSITIVE_INFINITY : Number(values.seconds);
  const screen = process.stdout.isTTY && !values.json;
  for (let seconds = 0; seconds < limit && !signal.aborted; seconds++) {
    const current = await frame(state);
    if (values.json) console.log(JSON.stringify({ second: seconds, firstDecisionMs, ...current }));
    else if (screen) process.stdout.write(`\x1b[2J\x1b[H${draw(state, current, seconds, firstDecisionMs)}\n`);
    // Without a screen, such as in CI: a picture every ten seconds.
    else if (seconds % 10 === 0 || seconds === limit - 1)
      console.log(`${draw(state, current, seconds, firstDecisionMs)}\n`);
    await sleep(1_000, undefined, { signal }).catch(() => {});
  }
}

if (values.help) console.log(USAGE);
else {
  try {
    await main();
  } catch (error) {
    console.error(error instanceof LocalError ? `error ${error.code}: ${error.message}` : messageOf(error));
    process.exitCode = 1;
  }
}
