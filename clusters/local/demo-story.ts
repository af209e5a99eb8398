import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CustomObjectsApi } from "@kubernetes/client-node";
import { parse, stringify } from "yaml";
import { LocalError, messageOf } from "./errors.ts";
import { queryValue } from "./prometheus.ts";
import { type ClusterState, REPOSITORY } from "./state.ts";
import { exec } from "./toolchain/exec.ts";
import { adminConfig } from "./view.ts";

// The demo's story: v1 runs, v2 comes in and is promoted, v3 does harm and is taken back. What is told at the end is read
// from the cluster, and each claim is checked.

const MANIFESTS = join(REPOSITORY, "clusters/local/manifests");
const NAMESPACE = "baton";
export const DEPLOYMENT = "momentum";
const STEP_TIMEOUT_MS = 120_000;
const POLL_MS = 250;

interface HistoryEntry {
  readonly version: string;
  readonly completionStatus: string;
  readonly reason: string;
  readonly message?: string;
  readonly startedAt: string;
  readonly endedAt: string;
}

/** What the story reads of a ModelDeployment's status. */
export interface Status {
  readonly phase?: string;
  readonly message?: string;
  readonly stable?: { readonly version: string; readonly revision: string };
  readonly candidate?: { readonly version: string };
  readonly assignments?: readonly { readonly revision: string }[];
  readonly history?: readonly HistoryEntry[];
  readonly notes?: readonly {
    readonly id: number;
    readonly at: string;
    readonly reason: string;
    readonly message: string;
  }[];
}

export interface Report {
  readonly releases: readonly HistoryEntry[];
  /** From the decision to go back, which the breach made, to everything back at stable. */
  readonly rollbackMs: number | undefined;
  readonly messages: number;
  readonly live: number;
  readonly lost: number;
  readonly doubled: number;
  readonly violations: number;
  readonly handovers: number;
  readonly pauseMs: { readonly p50: number; readonly p99: number; readonly max: number } | undefined;
  readonly apiWrites: number | undefined;
  /** What the story claims and is not so. */
  readonly untrue: readonly string[];
}

export class Story {
  readonly #state: ClusterState;
  readonly #kubectl: string;
  readonly #signal: AbortSignal;
  readonly #objects: CustomObjectsApi;

  constructor(state: ClusterState, kubectl: string, signal: AbortSignal) {
    this.#state = state;
    this.#kubectl = kubectl;
    this.#signal = signal;
    this.#objects = adminConfig(state).makeApiClient(CustomObjectsApi);
  }

  /** Services and definitions first, then what is made of those. */
  async deploy(): Promise<void> {
    await this.#apply(MANIFESTS);
    const wait = ["wait", "--for=condition=Established", "--timeout=30s", "crd", "-l"];
    await this.#run([...wait, "app.kubernetes.io/part-of=baton"]);
    await this.#apply(join(MANIFESTS, "models"));
  }

  /** Changes the model's version in its manifest, as somebody would in Git, and applies it. */
  async release(version: string): Promise<void> {
    const folder = `apps/signal-model/models/${DEPLOYMENT}/${version}/model.json`;
    const digest = createHash("sha256")
      .update(await readFile(join(REPOSITORY, folder)))
      .digest("hex");
    const manifest = parse(await readFile(join(MANIFESTS, "models", `${DEPLOYMENT}.yaml`), "utf8"));
    Object.assign(manifest.spec.model, { version, uri: `file:${folder}`, digest: `sha256:${digest}` });
    const file = join(this.#state.folder, "release.yaml");
    await writeFile(file, stringify(manifest));
    await this.#apply(file);
  }

  async status(): Promise<Status> {
    const found = await this.#objects.getNamespacedCustomObject({
      group: "baton.dev",
      version: "v1alpha1",
      plural: "modeldeployments",
      namespace: NAMESPACE,
      name: DEPLOYMENT,
    });
    return (found as { readonly status?: Status }).status ?? {};
  }

  /** Waits until the status is as it should be, and shows it on the way. */
  async until(
    what: string,
    check: (status: Status) => boolean,
    show: (status: Status) => void,
  ): Promise<void> {
    const deadline = Date.now() + STEP_TIMEOUT_MS;
    let last: Status = {};
    while (!this.#signal.aborted) {
      last = await this.status().catch(() => last);
      show(last);
      if (check(last)) return;
      if (Date.now() > deadline) {
        throw new LocalError(
          "NOT_READY",
          `${what}: not after ${STEP_TIMEOUT_MS / 1000} s (${last.message ?? "no status"}); look at: npm run cluster -- logs operator --name ${this.#state.name}`,
        );
      }
      await sleep(POLL_MS, undefined, { signal: this.#signal }).catch(() => {});
    }
  }

  async report(): Promise<Report> {
    const { history = [], stable, assignments = [] } = await this.status();
    const verdict = await this.#verify();
    const ask = (query: string) => queryValue(this.#state.ports.prometheus, query).catch(() => undefined);
    const apiWrites = await ask(
      'sum(max_over_time(baton_operator_api_requests_total{method!="GET",resource!="leases",code=~"2.."}[15m]))',
    );
    const [third, second] = history;
    const notes = (await this.status()).notes ?? [];
    const condemned = notes.findLast(({ reason }) => reason === "AnalysisFailed");
    const { counts, broken, violations } = verdict;
    const untrue = [
      [third?.version === "3.0.0" && third.completionStatus === "RolledBack", "3.0.0 was rolled back"],
      [third?.reason === "AnalysisFailed", "what was measured took 3.0.0 back"],
      [second?.version === "2.0.0" && second.completionStatus === "Promoted", "2.0.0 was promoted"],
      [stable?.version === "2.0.0", "2.0.0 is stable"],
      [assignments.every(({ revision }) => revision === stable?.revision), "2.0.0 decides on everything"],
      [verdict.ok, "nothing was lost, doubled or decided by the wrong revision"],
      [counts.live > 0, "there were decisions"],
    ] as const;
    return {
      releases: history,
      rollbackMs:
        condemned === undefined || third === undefined
          ? undefined
          : Date.parse(third.endedAt) - Date.parse(condemned.at),
      messages: counts.inputs,
      live: counts.live,
      lost: violations.filter(({ rule, detail }) => rule === "H1" && !detail.includes("twice")).length,
      doubled: violations.filter(({ rule, detail }) => rule === "H1" && detail.includes("twice")).length,
      violations: Object.values(broken).reduce((sum, count) => sum + count, 0),
      handovers: counts.handovers,
      pauseMs: verdict.pauseMs,
      apiWrites,
      untrue: untrue.flatMap(([is, claim]) => (is ? [] : [claim])),
    };
  }

  /** The history checker's verdict, by the command that people use. */
  async #verify(): Promise<Verdict> {
    const args = [join(REPOSITORY, "apps/baton/main.ts"), "history", "verify", DEPLOYMENT, "--json"];
    const env = { KAFKA_BROKERS: `127.0.0.1:${this.#state.ports.kafka}` };
    const result = await exec(process.execPath, args, { env, signal: this.#signal });
    const line = result.tail.findLast((text) => text.startsWith("{"));
    if (line === undefined) throw new LocalError("NOT_READY", `history verify:\n${result.tail.join("\n")}`);
    return JSON.parse(line) as Verdict;
  }

  async #apply(path: string): Promise<void> {
    await this.#run(["apply", "--server-side", "--force-conflicts", "-f", path]);
  }

  async #run(args: readonly string[]): Promise<void> {
    const config = join(this.#state.folder, "pki/admin.kubeconfig");
    const options = { signal: this.#signal };
    const result = await exec(this.#kubectl, ["--kubeconfig", config, ...args], options).catch(
      (error: unknown) => ({ code: 1, tail: [messageOf(error)] }),
    );
    if (result.code === 0 || this.#signal.aborted) return;
    throw new LocalError("MANIFEST_REJECTED", `kubectl ${args[0]} failed:\n${result.tail.join("\n")}`);
  }
}

interface Verdict {
  readonly ok: boolean;
  readonly counts: { readonly inputs: number; readonly live: number; readonly handovers: number };
  readonly pauseMs?: { readonly p50: number; readonly p99: number; readonly max: number };
  readonly broken: Readonly<Record<string, number>>;
  readonly violations: readonly { readonly rule: string; readonly detail: string }[];
}
