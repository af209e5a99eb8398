import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { DEPLOYMENT, type Report, type Status, Story } from "./demo-story.ts";
import { LocalError, messageOf } from "./errors.ts";
import { EXIT_INTERRUPTED, interruption } from "./interrupt.ts";
import { downCluster, resetCluster, upCluster } from "./lifecycle.ts";
import { queryValue } from "./prometheus.ts";
import { type ClusterState, REPOSITORY } from "./state.ts";
import { ensureToolchain, toolPath } from "./toolchain/index.ts";

// Starts the local cluster, deploys the platform through its API server and lets the operator release three versions of a
// model. Exit code 0 only if what it tells is true.

const USAGE = `npm run demo -- [--name NAME] [--keep] [--json]

  --name NAME   which local cluster (default demo)
  --keep        go on streaming after the story, until Ctrl-C
  --json        print JSON objects, the report last, instead of a screen`;

const WINDOW = "10s";

const { values } = parseArgs({
  options: {
    name: { type: "string", default: "demo" },
    keep: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
const screen = process.stdout.isTTY === true && !values.json;

/** What is on the screen. */
class View {
  readonly #state: ClusterState;
  readonly #started = Date.now();
  readonly #follower: ChildProcess;
  #tree: string[] = [];
  #chapter = "";
  #stream = "";
  #told = 0;
  #drawnAt = 0;

  constructor(state: ClusterState) {
    this.#state = state;
    const args = [join(REPOSITORY, "apps/baton/main.ts"), "get", DEPLOYMENT, "--watch"];
    const env = { ...process.env, KUBECONFIG: join(state.folder, "pki/admin.kubeconfig") };
    this.#follower = spawn(process.execPath, args, { env, stdio: ["ignore", "pipe", "ignore"] });
    if (this.#follower.stdout === null) return;
    createInterface({ input: this.#follower.stdout }).on("line", (line) => {
      if (!/^[├└]/.test(line)) this.#tree = [];
      this.#tree.push(line);
      this.#draw();
    });
  }

  chapter(text: string): void {
    this.#chapter = text;
    if (values.json) console.log(JSON.stringify({ at: this.#seconds(), chapter: text }));
    else if (!screen) console.log(`\n${text}`);
  }

  /** Tells what the operator has noted since the last look. */
  async show({ notes = [] }: Status): Promise<void> {
    for (const { id, reason, message } of notes) {
      if (id <= this.#told) continue;
      this.#told = id;
      if (values.json) console.log(JSON.stringify({ at: this.#seconds(), reason, message }));
      else if (!screen) console.log(`  ${this.#seconds().toFixed(1).padStart(6)} s  ${reason}: ${message}`);
    }
    if (Date.now() - this.#drawnAt < 1_000 || !screen) return;
    this.#drawnAt = Date.now();
    this.#stream = await streamLine(this.#state);
    this.#draw();
  }

  tree(): string {
    return this.#tree.join("\n");
  }

  close(): void {
    this.#follower.kill("SIGTERM");
  }

  #seconds(): number {
    return (Date.now() - this.#started) / 1000;
  }

  #draw(): void {
    if (!screen) return;
    const lines = [
      `Baton demo · cluster ${this.#state.name} · ${this.#seconds().toFixed(0)} s`,
      "",
      `  ${this.#chapter}`,
      `  ${this.#stream}`,
      "",
      ...this.#tree.map((line) => `  ${line}`),
      "",
      "  Ctrl-C stops everything.",
    ];
    process.stdout.write(`\x1b[2J\x1b[H${lines.join("\n")}\n`);
  }
}

async function streamLine({ ports }: ClusterState): Promise<string> {
  const ask = (query: string) => queryValue(ports.prometheus, query).catch(() => undefined);
  const [messages, decisions, p50, p99] = await Promise.all([
    ask(`sum(rate(baton_market_data_messages_total[${WINDOW}]))`),
    ask(`sum(rate(baton_outcomes_total{action="live"}[${WINDOW}]))`),
    ...[0.5, 0.99].map((q) =>
      ask(
        `1000 * histogram_quantile(${q}, sum(rate(baton_signal_end_to_end_seconds_bucket[${WINDOW}])) by (le))`,
      ),
    ),
  ]);
  return `${number(messages)} messages/s on 20 instruments · ${number(decisions)} live decisions/s · end to end p50 ${number(p50)} ms, p99 ${number(p99)} ms`;
}

function number(value: number | undefined, digits = 0): string {
  if (value === undefined) return "-";
  return value.toLocaleString("en-US", { maximumFractionDigits: digits, minimumFractionDigits: digits });
}

function drawReport(report: Report): string {
  const { releases, rollbackMs, pauseMs, apiWrites, untrue } = report;
  return [
    "What has happened",
    ...releases.toReversed().map(({ version, completionStatus, startedAt, endedAt, message }) => {
      const seconds = (Date.parse(endedAt) - Date.parse(startedAt)) / 1000;
      const how = `${completionStatus} after ${seconds.toFixed(1)} s`;
      return `  ${version}  ${how}${message === undefined ? "" : `: ${message}`}`;
    }),
    `  breach to everything back   ${rollbackMs === undefined ? "-" : `${number(rollbackMs)} ms`}`,
    `  messages                    ${number(report.messages)} in, ${number(report.live)} decided live, lost ${report.lost}, doubled ${report.doubled}, other breaches ${report.violations - report.lost - report.doubled}`,
    `  pauses of ${number(report.handovers)} partitions     p50 ${number(pauseMs?.p50)} ms, p99 ${number(pauseMs?.p99)} ms`,
    `  API writes of the operator  ${number(apiWrites)}`,
    ...(untrue.length === 0
      ? ["Every line of it was checked."]
      : ["NOT SO:", ...untrue.map((claim) => `  ${claim}`)]),
  ].join("\n");
}

async function tell(story: Story, view: View, signal: AbortSignal): Promise<Report | undefined> {
  const show = (status: Status) => void view.show(status);
  const settled = ({ candidate, stable, assignments = [] }: Status) =>
    candidate === undefined && assignments.every(({ revision }) => revision === stable?.revision);
  const ended = (version: string) => (status: Status) =>
    status.history?.[0]?.version === version && settled(status);

  view.chapter("1/3  momentum 1.0.0 is applied: the first revision gets everything");
  await story.until("the first revision", ended("1.0.0"), show);
  if (signal.aborted) return undefined;
  view.chapter("2/3  momentum 2.0.0, a good one: BTCUSDT, then low-, medium-volume, all");
  await story.release("2.0.0");
  await story.until("the end of 2.0.0", ended("2.0.0"), show);
  if (signal.aborted) return undefined;
  view.chapter("3/3  momentum 3.0.0, a harmful one: no number where sellers prevail");
  await story.release("3.0.0");
  await story.until("the end of 3.0.0", ended("3.0.0"), show);
  if (signal.aborted) return undefined;
  // What is on its way reaches its topic.
  await sleep(1_000);
  return story.report();
}

async function main(): Promise<void> {
  const started = Date.now();
  const stop = interruption();
  const progress = (line: string) => console.error(line);
  const toolchain = await ensureToolchain({ progress, signal: stop });
  // A story begins at its beginning.
  await resetCluster(values.name);
  const state = await upCluster(values.name, progress, stop);
  let view: View | undefined;
  try {
    if (stop.aborted) return;
    const story = new Story(state, toolPath(toolchain, "kubectl"), stop);
    await story.deploy();
    progress("deployed; waiting for the operator ...");
    view = new View(state);
    const report = await tell(story, view, stop);
    if (report === undefined) return;
    if (report.untrue.length > 0) process.exitCode = 1;
    console.log(values.json ? JSON.stringify({ report }) : `\n${view.tree()}\n\n${drawReport(report)}\n`);
    while (values.keep && !stop.aborted) {
      await view.show(await story.status());
      await sleep(1_000, undefined, { signal: stop }).catch(() => {});
    }
  } finally {
    view?.close();
    progress("stopping ...");
    await downCluster(values.name);
    progress(`stopped after ${((Date.now() - started) / 1000).toFixed(0)} s`);
  }
}

if (values.help) console.log(USAGE);
else {
  try {
    await main();
  } catch (error) {
    console.error(error instanceof LocalError ? `error ${error.code}: ${error.message}` : messageOf(error));
    process.exitCode = error instanceof LocalError && error.code === "INTERRUPTED" ? EXIT_INTERRUPTED : 1;
  }
}
