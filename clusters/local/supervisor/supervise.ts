import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { LocalError, messageOf } from "../errors.ts";
import { lastLines } from "../log-file.ts";

/** One process of the cluster: how to start it, when it is ready, what must be ready before it. */
export interface ProcessSpec {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly logFile: string;
  readonly after: readonly string[];
  /** Work before the first start, such as formatting a disk. */
  readonly prepare?: () => Promise<void>;
  /** Resolves when the process serves; rejects or throws while it does not. */
  readonly ready: () => Promise<void>;
  readonly readyTimeoutMs: number;
  readonly stopTimeoutMs: number;
}

export interface ProcessStatus {
  readonly name: string;
  readonly state: "waiting" | "starting" | "ready" | "restarting" | "stopped" | "failed";
  readonly pid: number | undefined;
  readonly restarts: number;
  /** Milliseconds from start to ready, of the latest start. */
  readonly readyMs: number | undefined;
  readonly message: string | undefined;
}

/** Milliseconds to wait before the nth restart in a row. */
export function restartDelay(failures: number): number {
  return Math.min(5_000, 100 * 2 ** Math.max(0, failures - 1));
}

/** A process that ran this long is taken as settled: its next crash counts as the first. */
const SETTLED_MS = 10_000;
const READY_POLL_MS = 50;
/** How often a process may die before it was ever ready. */
const FIRST_TRIES = 5;
// The kernel ends the child when we are gone: no orphan even after SIGKILL.
const SETPRIV = "/usr/bin/setpriv";

/** Command and arguments such that the kernel kills the process when its parent dies. */
export function tied(command: string, args: readonly string[]): [string, string[]] {
  if (!existsSync(SETPRIV)) return [command, [...args]];
  return [SETPRIV, ["--pdeathsig", "KILL", "--", command, ...args]];
}

/** Starts processes in order of what they need, restarts those that die, stops them in the reverse order. */
export class Supervisor {
  readonly #members: readonly Member[];
  #stopping = false;

  constructor(specs: readonly ProcessSpec[], onChange: (status: readonly ProcessStatus[]) => void) {
    const changed = () => onChange(this.status());
    this.#members = specs.map((spec) => new Member(spec, changed));
  }

  status(): readonly ProcessStatus[] {
    return this.#members.map((member) => member.status());
  }

  /** Resolves when every process is ready; rejects when one does not become ready in its time. */
  async start(): Promise<void> {
    const started = new Map<string, Promise<void>>();
    for (const member of this.#members) {
      const needed = member.spec.after.map((name) => started.get(name));
      if (needed.includes(undefined)) throw new Error(`${member.spec.name} is listed before what it needs`);
      started.set(
        member.spec.name,
        Promise.all(needed).then(() => (this.#stopping ? undefined : member.start())),
      );
    }
    await Promise.all(started.values());
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    const stopped = new Map<string, Promise<void>>();
    for (const member of this.#members.toReversed()) {
      const users = this.#members.filter((other) => other.spec.after.includes(member.spec.name));
      const waits = users.map((user) => stopped.get(user.spec.name));
      stopped.set(
        member.spec.name,
        Promise.all(waits).then(() => member.stop()),
      );
    }
    await Promise.all(stopped.values());
  }
}

class Member {
  readonly spec: ProcessSpec;
  readonly #changed: () => void;
  #child: ChildProcess | undefined;
  #state: ProcessStatus["state"] = "waiting";
  #restarts = 0;
  #readyMs: number | undefined;
  #message: string | undefined;
  #stopping = new AbortController();
  #loop: Promise<void> | undefined;

  constructor(spec: ProcessSpec, changed: () => void) {
    this.spec = spec;
    this.#changed = changed;
  }

  status(): ProcessStatus {
    return {
      name: this.spec.name,
      state: this.#state,
      pid: this.#child?.pid,
      restarts: this.#restarts,
      readyMs: this.#readyMs,
      message: this.#message,
    };
  }

  async start(): Promise<void> {
    try {
      await this.spec.prepare?.();
      await new Promise<void>((resolve, reject) => {
        this.#loop = this.#run(resolve).catch((error: unknown) => reject(error));
      });
    } catch (error) {
      this.#set("failed", messageOf(error));
      throw error;
    }
  }

  /** Runs the process for as long as the supervisor lives; it has to become ready once within its time. */
  async #run(firstReady: () => void): Promise<void> {
    const { signal } = this.#stopping;
    const begun = Date.now();
    let failures = 0;
    let everReady = false;
    while (!signal.aborted) {
      const startedAt = Date.now();
      this.#set(this.#restarts === 0 ? "starting" : "restarting", this.#message);
      const ended = this.#spawn();
      if (await this.#waitReady(startedAt, ended)) {
        everReady = true;
        this.#readyMs = Date.now() - startedAt;
        this.#set("ready", undefined);
        firstReady();
      } else if (!everReady && !signal.aborted) {
        const late = Date.now() - begun > this.spec.readyTimeoutMs;
        if (late || failures >= FIRST_TRIES - 1) {
          this.#child?.kill("SIGKILL");
          throw await this.#notReady(
            late ? `in ${this.spec.readyTimeoutMs / 1000} s` : `and ended ${FIRST_TRIES} times`,
          );
        }
      }
      const how = await ended;
      this.#child = undefined;
      if (signal.aborted) break;
      failures = Date.now() - startedAt > SETTLED_MS ? 1 : failures + 1;
      this.#restarts += 1;
      this.#set("restarting", `ended with ${how}`);
      await sleep(restartDelay(failures), undefined, { signal }).catch(() => {});
    }
    this.#set("stopped", undefined);
  }

  async #notReady(how: string): Promise<LocalError> {
    const lines = await lastLines(this.spec.logFile, 8).catch(() => []);
    const { name, logFile } = this.spec;
    return new LocalError(
      "NOT_READY",
      `${name} did not become ready ${how}; its log ${logFile} ends with:\n${lines.join("\n")}`,
    );
  }

  #spawn(): Promise<string> {
    const log = openSync(this.spec.logFile, "a");
    const [command, args] = tied(this.spec.command, this.spec.args);
    const child = spawn(command, args, {
      stdio: ["ignore", log, log],
      env: { ...process.env, ...this.spec.env },
    });
    closeSync(log);
    this.#child = child;
    return new Promise((resolve) => {
      child.once("error", (error) => resolve(error.message));
      child.once("exit", (code, signal) => resolve(signal ?? `exit code ${code}`));
    });
  }

  /** True when ready; false when the process ended, ran out of time, or is being stopped. */
  async #waitReady(startedAt: number, ended: Promise<string>): Promise<boolean> {
    let over = false;
    void ended.then(() => {
      over = true;
    });
    while (!over && !this.#stopping.signal.aborted && Date.now() - startedAt < this.spec.readyTimeoutMs) {
      try {
        await this.spec.ready();
        return !over;
      } catch {
        await sleep(READY_POLL_MS);
      }
    }
    return false;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    const child = this.#child;
    if (child !== undefined) {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), this.spec.stopTimeoutMs);
      await this.#loop?.catch(() => {});
      clearTimeout(timer);
    }
    this.#set("stopped", undefined);
  }

  #set(state: ProcessStatus["state"], message: string | undefined): void {
    this.#state = state;
    this.#message = message;
    this.#changed();
  }
}
