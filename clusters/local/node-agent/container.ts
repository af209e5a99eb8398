import { randomUUID } from "node:crypto";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { sleepFor } from "#runtime/time/sleep.ts";
import type { ContainerFolders } from "./container-view.ts";
import { ContainerProcess, type ContainerSpec, execIn } from "./helper.ts";
import type { RunningTarget } from "./kubelet-server.ts";
import { runProbe } from "./probe.ts";
import { type Ended, type ProbeTally, tally } from "./rules.ts";
import type { Container, Probe } from "./types.ts";

export interface StartOptions {
  readonly container: Container;
  /** Path of baton-container. */
  readonly helper: string;
  readonly spec: ContainerSpec;
  readonly folders: ContainerFolders;
  readonly podIp: string;
  readonly graceSeconds: number;
  /** Told when probes change what the container's status says. */
  readonly onChange: () => void;
}

/** One run of one container: a program in namespaces of its own, with its probes. */
export class RunningContainer {
  readonly id = `process://${randomUUID()}`;
  readonly startedAt = Date.now();
  /** Resolves when everything in the container is gone. */
  readonly ended: Promise<Ended>;
  #started: boolean;
  #ready: boolean;
  readonly #options: StartOptions;
  readonly #process: ContainerProcess;
  readonly #over = new AbortController();

  constructor(options: StartOptions) {
    this.#options = options;
    const { container, helper, spec, folders } = options;
    this.#started = container.startupProbe === undefined;
    this.#ready = this.#started && container.readinessProbe === undefined;
    this.#process = new ContainerProcess(helper, spec, ({ pid }) => {
      // For whoever wants to look at the program, or to harm it, from outside.
      void writeFile(join(folders.base, "pid"), String(pid)).catch(() => {});
    });
    this.ended = this.#waitEnd();
    if (container.startupProbe !== undefined) this.#probeLoop("startup", container.startupProbe);
    else this.#startOtherProbes();
  }

  get started(): boolean {
    return this.#started;
  }

  get ready(): boolean {
    return this.#ready;
  }

  /** What another program in it needs to know. */
  get target(): RunningTarget {
    return { init: this.#process.started?.init ?? 0, spec: this.#options.spec };
  }

  /** SIGTERM for the program, then SIGKILL for all after the grace period. */
  async stop(graceSeconds: number): Promise<void> {
    this.#ready = false;
    this.#over.abort();
    this.#process.signal("TERM");
    const ended = new AbortController();
    const grace = sleepFor(graceSeconds * 1000, ended.signal).then(() => {
      if (!ended.signal.aborted) this.#process.signal("KILL");
    });
    await this.ended;
    ended.abort();
    await grace;
  }

  async #waitEnd(): Promise<Ended> {
    const end = await this.#process.ended;
    this.#over.abort();
    this.#ready = false;
    await rm(this.#options.folders.base, { recursive: true, force: true }).catch(() => {});
    return {
      exitCode: end.code,
      signal: end.kind === "ended" ? end.signal : undefined,
      message: end.kind === "failed" ? end.message : undefined,
      startedAt: this.startedAt,
      finishedAt: Date.now(),
      id: this.id,
    };
  }

  #startOtherProbes(): void {
    const { livenessProbe, readinessProbe } = this.#options.container;
    if (livenessProbe !== undefined) this.#probeLoop("liveness", livenessProbe);
    if (readinessProbe !== undefined) this.#probeLoop("readiness", readinessProbe);
  }

  #probeLoop(kind: "startup" | "liveness" | "readiness", probe: Probe): void {
    void this.#probe(kind, probe);
  }

  async #probe(kind: "startup" | "liveness" | "readiness", probe: Probe): Promise<void> {
    const { signal } = this.#over;
    const { container, podIp } = this.#options;
    const thresholds = { success: probe.successThreshold ?? 1, failure: probe.failureThreshold ?? 3 };
    let counts: ProbeTally = { passed: 0, failed: 0 };
    await sleepFor((probe.initialDelaySeconds ?? 0) * 1000, signal);
    while (!signal.aborted) {
      const ok = await runProbe(probe, container, podIp, (args, timeoutMs) =>
        this.#succeeds(args, timeoutMs),
      );
      if (signal.aborted) return;
      const result = tally(counts, ok, thresholds);
      counts = result.tally;
      if (result.verdict !== "undecided" && this.#apply(kind, result.verdict === "pass")) return;
      // A kubelet waits a full period; so do we, but an unready container is looked at once a second.
      const periodMs = (probe.periodSeconds ?? 10) * 1000;
      const waitMs = kind !== "liveness" && !this.#ready ? Math.min(periodMs, 1000) : periodMs;
      await sleepFor(waitMs, signal);
    }
  }

  /** Whether a command, run in the container, ends with 0 in time. */
  #succeeds(args: readonly string[], timeoutMs: number): Promise<boolean> {
    const { helper, spec } = this.#options;
    const { started } = this.#process;
    if (started === undefined) return Promise.resolve(false);
    const { mode, env, cwd, process: identity } = spec;
    const child = execIn(helper, started.init, { mode, args, env, cwd, process: identity }, "ignore");
    return new Promise((resolve) => {
      const timer = setTimeout(() => killGroup(child.pid), timeoutMs);
      const done = (ok: boolean) => {
        clearTimeout(timer);
        resolve(ok);
      };
      child.once("error", () => done(false));
      child.once("exit", (code) => done(code === 0));
    });
  }

  /** Acts on a verdict; true when this probe's work is over. */
  #apply(kind: "startup" | "liveness" | "readiness", passed: boolean): boolean {
    if (kind === "readiness") {
      if (this.#ready !== passed) {
        this.#ready = passed;
        this.#options.onChange();
      }
      return false;
    }
    if (!passed) {
      void this.stop(this.#options.graceSeconds);
      return true;
    }
    if (kind === "liveness") return false;
    this.#started = true;
    this.#ready = this.#options.container.readinessProbe === undefined;
    this.#options.onChange();
    this.#startOtherProbes();
    return true;
  }
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It is gone already.
  }
}
