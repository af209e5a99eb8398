import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type BrokerSpec, brokerArgs, connects, kafkaClass, prepareBroker } from "#clusters/local/kafka.ts";
import { freePort } from "#clusters/local/ports.ts";
import { tied } from "#clusters/local/supervisor/supervise.ts";
import { ensureToolchain, toolPath } from "#clusters/local/toolchain/index.ts";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { waitFor } from "./wait.ts";

/** A process of a test: killed, frozen and started again as the test likes. */
export class Subject {
  readonly #command: string;
  readonly #args: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  #child: ChildProcess | undefined;
  output = "";

  constructor(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.#command = command;
    this.#args = args;
    this.#env = env;
  }

  start(): void {
    const [command, args] = tied(this.#command, this.#args);
    const child = spawn(command, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...this.#env },
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (chunk) => {
        this.output = (this.output + String(chunk)).slice(-200_000);
      });
    }
    this.#child = child;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get running(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** Sends a signal and waits for the end; returns exit code and signal. */
  async end(
    signal: NodeJS.Signals = "SIGKILL",
  ): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    const child = this.#child;
    if (child === undefined) return { code: null, signal: null };
    if (this.running) {
      const closed = new Promise((resolve) => child.once("exit", resolve));
      child.kill(signal);
      await closed;
    }
    return { code: child.exitCode, signal: child.signalCode };
  }

  async ended(): Promise<number | null> {
    const child = this.#child;
    if (child !== undefined && this.running) await new Promise((resolve) => child.once("exit", resolve));
    return child?.exitCode ?? null;
  }
}

export interface TestBrokers {
  readonly addresses: readonly string[];
  readonly brokers: readonly Subject[];
  readonly libs: string;
  /** Starts a broker and waits until it takes connections. */
  start(index: number): Promise<void>;
  close(): Promise<void>;
}

/** One broker, or three that are each other's replicas, with fresh disks. */
export async function startBrokers(
  count: 1 | 3,
  options: Pick<BrokerSpec, "transactionVersion" | "jvm"> = {},
): Promise<TestBrokers> {
  const libs = toolPath(await ensureToolchain({ progress: () => {} }), "kafka");
  const folder = await mkdtemp(join(tmpdir(), "baton-brokers-"));
  const ports = await Promise.all(
    Array.from({ length: count }, async () => [await freePort(), await freePort()] as const),
  );
  const quorum = ports.map(([, controllerPort], i) => ({ nodeId: i + 1, controllerPort }));
  const specs: BrokerSpec[] = ports.map(([port, controllerPort], i) => ({
    nodeId: i + 1,
    folder: join(folder, `broker-${i + 1}`),
    port,
    controllerPort,
    quorum,
    ...options,
  }));
  await Promise.all(specs.map((spec) => prepareBroker(libs, spec)));
  const brokers = specs.map((spec) => new Subject("java", brokerArgs(libs, spec)));
  const addresses = specs.map((spec) => `127.0.0.1:${spec.port}`);
  const start = async (index: number) => {
    brokers[index]?.start();
    await waitFor(`broker ${index + 1}`, () => connects(specs[index]?.port ?? 0).then(() => true), 60_000);
  };
  await Promise.all(specs.map((_, index) => start(index)));
  const bus = new KafkaBus({ brokers: addresses, clientId: "setup" });
  await waitFor("the brokers", () => bus.ping().then(() => true), 60_000);
  await bus.close();
  return {
    addresses,
    brokers,
    libs,
    start,
    close: async () => {
      await Promise.all(brokers.map((broker) => broker.end()));
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/**
 * Every value of a topic as Kafka's own console consumer reads it: a witness that shares no code with ours. It reads until
 * nothing has come for a while: longer while there are fewer than expected, as on a busy machine it takes its time.
 */
export async function consoleConsumer(
  { libs, addresses }: Pick<TestBrokers, "libs" | "addresses">,
  topic: string,
  expected: number,
): Promise<string[]> {
  const values: string[] = [];
  const args = kafkaClass(libs, "org.apache.kafka.tools.consumer.ConsoleConsumer", [
    ...["--bootstrap-server", addresses.join(), "--topic", topic, "--from-beginning"],
    ...["--isolation-level", "read_committed", "--timeout-ms", "60000"],
  ]);
  const child = spawn(...tied("java", args), { stdio: ["ignore", "pipe", "ignore"] });
  const closed = new Promise((resolve) => child.once("close", resolve));
  let last = Date.now();
  createInterface({ input: child.stdout }).on("line", (line) => {
    values.push(line);
    last = Date.now();
  });
  const watch = setInterval(() => {
    if (values.length >= expected && Date.now() - last > 3_000) child.kill("SIGKILL");
  }, 100);
  await closed;
  clearInterval(watch);
  return values;
}

/** A server of the test's own: `process` is for killing and freezing it. */
export interface TestServer {
  readonly url: string;
  readonly process: Subject;
  start(): Promise<void>;
  close(): Promise<void>;
}

/** A Redis of the test's own, without persistence. */
export async function startRedis(): Promise<TestServer> {
  const server = toolPath(await ensureToolchain({ progress: () => {} }), "redis-server");
  const port = await freePort();
  const subject = new Subject(server, [
    "--bind",
    "127.0.0.1",
    "--port",
    String(port),
    "--save",
    "",
    "--dir",
    tmpdir(),
  ]);
  const start = async () => {
    subject.start();
    await waitFor("Redis", () => connects(port).then(() => true));
  };
  await start();
  return {
    url: `redis://127.0.0.1:${port}`,
    process: subject,
    start,
    close: async () => void (await subject.end()),
  };
}

/** A Prometheus of the test's own, which reads itself each second as the job `itself`. */
export async function startPrometheus(): Promise<TestServer> {
  const server = toolPath(await ensureToolchain({ progress: () => {} }), "prometheus");
  const port = await freePort();
  const folder = await mkdtemp(join(tmpdir(), "baton-prometheus-"));
  const address = `127.0.0.1:${port}`;
  const config = {
    global: { scrape_interval: "1s" },
    scrape_configs: [{ job_name: "itself", static_configs: [{ targets: [address] }] }],
  };
  await writeFile(join(folder, "prometheus.yml"), JSON.stringify(config));
  const subject = new Subject(server, [
    `--config.file=${join(folder, "prometheus.yml")}`,
    `--storage.tsdb.path=${join(folder, "data")}`,
    `--web.listen-address=${address}`,
  ]);
  const url = `http://${address}`;
  const start = async () => {
    subject.start();
    await waitFor("Prometheus", async () => (await fetch(`${url}/-/ready`)).ok);
  };
  await start();
  const close = async () => {
    await subject.end();
    await rm(folder, { recursive: true });
  };
  return { url, process: subject, start, close };
}
