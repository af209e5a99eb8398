import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KubeConfig } from "@kubernetes/client-node";
import { afterAll, beforeAll, expect, inject, it } from "vitest";
import type { KubeObject, Resource } from "#operators/controller-kit/api.ts";
import type { LeaseSpec } from "#operators/controller-kit/lease.ts";
import { seededRandom } from "#runtime/market/random.ts";
import { applyCharts, operatorAccount } from "#tests/support/operator-account.ts";
import { OperatorBench } from "#tests/support/operator-bench.ts";
import { each } from "#tests/support/points.ts";
import { Subject } from "#tests/support/processes.ts";
import { waitFor } from "#tests/support/wait.ts";

// Two operators as processes. The one that leads is frozen (SIGSTOP) in the middle of one of its writes, the other one
// takes over and writes; then the held write goes through and the frozen one wakes up (SIGCONT). The API server takes
// nothing more of it. FAULTS=full: 20 rounds.

const cluster = inject("cluster");
const LEASES: Resource = { group: "coordination.k8s.io", version: "v1", plural: "leases", kind: "Lease" };
const PAIRS = process.env["FAULTS"] === "full" ? 5 : 2;
const ROUNDS = process.env["FAULTS"] === "full" ? 4 : 1;
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const FENCED = /\/deployments\/|\/modeldeployments\/[^/]+\/status/;
let folder = "";

/** Stands between an operator and the API server; can hold one write. */
class Gate {
  readonly #server: Server;
  readonly #upstream: KubeConfig;
  /** Called with each write that the fence is for, in order; it goes on when this resolves. */
  onWrite: () => Promise<void> = async () => {};
  /** Statuses of answers to such writes. */
  readonly answers: number[] = [];

  constructor(upstream: KubeConfig) {
    this.#upstream = upstream;
    this.#server = createServer((incoming, outgoing) => {
      const { method = "", url = "", headers } = incoming;
      const isWrite = method !== "GET" && FENCED.test(url);
      const parts: Buffer[] = [];
      incoming.on("data", (part: Buffer) => parts.push(part));
      incoming.on("end", () => void this.#forward(method, url, headers, parts, isWrite, outgoing));
    });
  }

  async #forward(
    method: string,
    url: string,
    headers: import("node:http").IncomingHttpHeaders,
    body: readonly Buffer[],
    isWrite: boolean,
    outgoing: import("node:http").ServerResponse,
  ): Promise<void> {
    if (isWrite) await this.onWrite();
    const { server = "", caData = "" } = this.#upstream.getCurrentCluster() ?? {};
    const target = new URL(url, server);
    const ca = Buffer.from(caData, "base64");
    const to = request(target, { method, headers: { ...headers, host: target.host }, ca }, (answer) => {
      if (isWrite) this.answers.push(answer.statusCode ?? 0);
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(outgoing);
      outgoing.on("close", () => answer.destroy());
    });
    to.on("error", () => outgoing.destroy());
    to.end(Buffer.concat(body));
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    const at = this.#server.address();
    return `http://127.0.0.1:${typeof at === "object" && at !== null ? at.port : 0}`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

interface Side {
  readonly name: string;
  readonly gate: Gate;
  readonly operator: Subject;
}

/** Two operators of one namespace. */
class Pair {
  readonly bench = new OperatorBench(cluster);
  #sides: readonly Side[] = [];
  #version = 1;

  async open(suffix: string, fence: boolean): Promise<this> {
    const { bench } = this;
    await bench.open();
    await bench.stopOperator();
    const applied = await applyCharts(bench, suffix);
    if (!fence) {
      const binding = applied.find(({ object }) => object.kind === "ValidatingAdmissionPolicyBinding");
      await bench.api.delete(binding?.resource ?? LEASES, undefined, binding?.object.metadata.name ?? "");
    }
    this.#sides = [await this.#side("left"), await this.#side("right")];
    for (const { operator } of this.#sides) operator.start();
    expect(await bench.create(this.#spec())).toBeUndefined();
    await bench.stable("1.0.0");
    return this;
  }

  async close(): Promise<void> {
    for (const { operator, gate } of this.#sides) {
      operator.signal("SIGCONT");
      await operator.end();
      gate.close();
    }
    await this.bench.close("keep");
  }

  async #side(name: string): Promise<Side> {
    const { namespace } = this.bench;
    const gate = new Gate(this.bench.pods.config);
    const config = await operatorAccount(this.bench, await gate.listen());
    const kubeconfig = join(folder, `${namespace}-${name}`);
    await writeFile(kubeconfig, config.exportConfig(), { mode: 0o600 });
    const operator = new Subject(process.execPath, ["operators/model-deployment/main.ts"], {
      KUBECONFIG: kubeconfig,
      KAFKA_BROKERS: `127.0.0.1:${cluster.ports.kafka}`,
      PROMETHEUS_URL: `http://127.0.0.1:${cluster.ports.prometheus}`,
      POD_NAMESPACE: namespace,
      POD_NAME: name,
      WATCH_NAMESPACE: namespace,
      HTTP_PORT: "0",
      LOG_LEVEL: "info",
    });
    return { name, gate, operator };
  }

  #spec() {
    return this.bench.plainSpec(`${this.#version}.0.0`, (draft) => {
      draft["strategy"] = { canary: { steps: [{ setWeight: 50 }, { pause: { duration: "1s" } }] } };
      draft["progressDeadlineSeconds"] = 120;
    });
  }

  async #leader(): Promise<string> {
    const lease = await this.bench.api.get<KubeObject & { readonly spec: LeaseSpec }>(
      LEASES,
      this.bench.namespace,
      "baton-operator",
    );
    return lease.spec.holderIdentity ?? "";
  }

  /** What the API server answered to the writes of a leader that was frozen at its n-th one, after another one wrote. */
  async round(nth: number): Promise<readonly number[]> {
    try {
      return await this.#round(nth);
    } catch (error) {
      const said = this.#sides.map(({ name, operator }) => {
        return `${name} ${operator.running ? "runs" : "has ended"}: ${operator.output.slice(-2_000)}`;
      });
      throw new Error([String(error), ...said].join("\n"), { cause: error });
    }
  }

  async #round(nth: number): Promise<readonly number[]> {
    const { bench } = this;
    const leader = await this.#leader();
    const old = this.#sides.find(({ name }) => name === leader);
    if (old === undefined) throw new Error(`nobody leads: ${leader}`);
    const { epoch = 0 } = await bench.status();
    let release: () => void = () => {};
    let writes = 0;
    const held = new Promise<void>((resolve) => {
      old.gate.onWrite = async () => {
        writes += 1;
        if (writes !== nth) return;
        old.operator.signal("SIGSTOP");
        resolve();
        await new Promise<void>((go) => {
          release = go;
        });
      };
    });
    this.#version += 1;
    await bench.update(this.#spec());
    await held;
    await bench.until("the other one to write", (status) => (status.epoch ?? 0) > epoch, 60_000);
    const before = old.gate.answers.length;
    release();
    await waitFor("the held write's answer", () => old.gate.answers.length > before);
    old.operator.signal("SIGCONT");
    // Others lead: it ends, as it must, and is started again.
    await waitFor("the former leader to end", () => !old.operator.running, 30_000);
    const after = old.gate.answers.slice(before);
    old.gate.onWrite = async () => {};
    old.operator.start();
    await bench.stable(`${this.#version}.0.0`);
    return after;
  }
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "baton-leaders-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const accepted = (answers: readonly number[]) => answers.filter((status) => status < 300);

it.concurrent("argo-rollouts #2117: of two leaders the frozen one writes nothing any more", {
  timeout: 900_000,
}, async () => {
  const random = seededRandom(seed);
  const found: string[] = [];
  let refused = 0;
  await each(
    Array.from({ length: PAIRS }, (_, i) => i),
    PAIRS,
    async (i) => {
      const pair = await new Pair().open(`-${i}`, true);
      try {
        for (let round = 0; round < ROUNDS; round++) {
          const nth = 1 + Math.floor(random.uniform() * 5);
          const answers = await pair.round(nth);
          refused += answers.length - accepted(answers).length;
          if (accepted(answers).length > 0) found.push(`pair ${i}, round ${round}, write ${nth}: ${answers}`);
        }
      } finally {
        await pair.close();
      }
    },
  );
  console.log(`seed ${seed}: ${PAIRS * ROUNDS} rounds, ${refused} stale writes refused`);
  expect(found).toEqual([]);
  expect(refused).toBeGreaterThanOrEqual(PAIRS * ROUNDS);
});

it.concurrent("without the fence they are taken: it is the fence that keeps them out", {
  timeout: 300_000,
}, async () => {
  const pair = await new Pair().open("-open", false);
  try {
    expect(accepted(await pair.round(1)).length).toBeGreaterThan(0);
  } finally {
    await pair.close();
  }
});
