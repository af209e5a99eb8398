import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Subject } from "./processes.ts";

const PROCESS = join(import.meta.dirname, "handover-process.ts");
type Env = Readonly<Record<string, string>>;

/** A process of tests/support/handover-process.ts. */
export function handoverProcess(role: "worker" | "plain" | "conductor", env: Env): Subject {
  return new Subject(process.execPath, [PROCESS, role], env);
}

/** Counts the steps at which a process says that it met its fault. */
export function noteSteps(output: string, met: Map<string, number>): void {
  for (const [, step = ""] of output.matchAll(/"step":"([a-z-]+)","signal"/g)) {
    met.set(step, (met.get(step) ?? 0) + 1);
  }
}

export interface Pod {
  readonly revision: string;
  subject: Subject;
  /** Started again when it ends. */
  kept: boolean;
}

/** Pods that are started again when they end, as a kubelet would. */
export class Pods {
  readonly #env: Env;
  readonly #pods = new Set<Pod>();
  readonly #watching: Promise<void>;
  #stopped = false;
  restarts = 0;
  /** Steps of the protocol at which a pod was stopped. */
  readonly met = new Map<string, number>();

  constructor(env: Env) {
    this.#env = env;
    this.#watching = this.#watch();
  }

  of(revision: string): Pod[] {
    return [...this.#pods].filter((pod) => pod.kept && pod.revision === revision);
  }

  add(revision: string, env: Env = {}): Pod {
    const pod = { revision, subject: this.#start(revision, env), kept: true };
    this.#pods.add(pod);
    return pod;
  }

  /** Ends a pod for good. */
  async remove(pod: Pod, signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    pod.kept = false;
    pod.subject.signal("SIGCONT");
    await pod.subject.end(signal);
    noteSteps(pod.subject.output, this.met);
    this.#pods.delete(pod);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#watching;
    await Promise.all([...this.#pods].map((pod) => this.remove(pod)));
  }

  #start(revision: string, env: Env): Subject {
    const subject = handoverProcess("worker", { ...this.#env, REVISION: revision, ...env });
    subject.start();
    return subject;
  }

  async #watch(): Promise<void> {
    while (!this.#stopped) {
      for (const pod of this.#pods) {
        if (!pod.kept || pod.subject.running) continue;
        noteSteps(pod.subject.output, this.met);
        this.restarts += 1;
        // The fault that it was started with has been met.
        pod.subject = this.#start(pod.revision, {});
      }
      await sleep(250);
    }
  }
}
