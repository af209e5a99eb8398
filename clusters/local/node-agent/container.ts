import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync, mkdirSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { sleepFor } from "#runtime/time/sleep.ts";
import { tied } from "../supervisor/supervise.ts";
import { runProbe } from "./probe.ts";
import { type Ended, exitOf, type ProbeTally, tally } from "./rules.ts";
import type { Container, Probe } from "./types.ts";

export interface StartOptions {
  readonly container: Container;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly podIp: string;
  readonly logFile: string;
  readonly graceSeconds: number;
  /** Told when probes change what the container's status says. */
  readonly onChange: () => void;
}

/** One run of one container: a process with its probes. */
export class RunningContainer {
  readonly id = `process://${randomUUID()}`;
  readonly startedAt = Date.now();
  /** Resolves when the process and everything in its group is gone. */
  readonly ended: Promise<Ended>;
  #started: boolean;
  #ready: boolean;
  readonly #options: StartOptions;
  readonly #child: ChildProcess;
  readonly #over = new AbortController();

  constructor(options: StartOptions) {
    this.#options = options;
    const { container } = options;
    this.#started = container.startupProbe === undefined;
    this.#ready = this.#started && container.readinessProbe === undefined;
    mkdirSync(dirname(options.logFile), { recursive: true });
    const log = openSync(options.logFile, "a");
    const [program, ...args] = options.command as [string, ...string[]];
    const [command, tiedArgs] = tied(program, args);
    // A group of its own, so that what the process leaves behind can be ended with it.
    this.#child = spawn(command, tiedArgs, {
      stdio: ["ignore", log, log],
      cwd: options.cwd,
      env: options.env,
      detached: true,
    });
    closeSync(log);
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

  /** SIGTERM, then SIGKILL after the grace period. */
  async stop(graceSeconds: number): Promise<void> {
    this.#ready = false;
    this.#over.abort();
    this.#child.kill("SIGTERM");
    const ended = new AbortController();
    const grace = sleepFor(graceSeconds * 1000, ended.signal).then(() => {
      if (!ended.signal.aborted) this.kill();
    });
    await this.ended;
    ended.abort();
    await grace;
  }

  kill(): void {
    const { pid } = this.#child;
    if (pid === undefined) return;
    try {
      process.kill(-pid, "SIGKILL");
    } catch {
      // The group is gone already.
    }
  }

  #waitEnd(): Promise<Ended> {
    return new Promise((resolve) => {
      const finish = (code: number | null, signal: NodeJS.Signals | null) => {
        this.#over.abort();
        this.#ready = false;
        this.kill();
        resolve({ ...exitOf(code, signal), startedAt: this.startedAt, finishedAt: Date.now(), id: this.id });
      };
      this.#child.once("exit", finish);
      this.#child.once("error", () => finish(128, null));
    });
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
    const { container, podIp, env } = this.#options;
    const thresholds = { success: probe.successThreshold ?? 1, failure: probe.failureThreshold ?? 3 };
    let counts: ProbeTally = { passed: 0, failed: 0 };
    await sleepFor((probe.initialDelaySeconds ?? 0) * 1000, signal);
    while (!signal.aborted) {
      const ok = await runProbe(probe, container, podIp, env);
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
