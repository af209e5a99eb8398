import type { Logger } from "pino";
import type { WriteBackMetrics } from "./metrics.ts";
import { type ModelDeployment, type Rollback, rollbackOf } from "./plan.ts";
import type { Repository } from "./repository.ts";

const RETRY_MS = { first: 2_000, most: 60_000 };

export interface WriteBackOptions {
  readonly open: () => Promise<Repository>;
  /** From which offsets on a revision decides. */
  readonly offsets: (deployment: string, revision: string) => Promise<readonly string[]>;
  readonly metrics: WriteBackMetrics;
  readonly log: Logger;
}

/** Writes rollbacks back one after another, each until it is in Git or is no longer to be. */
export class WriteBack {
  readonly #options: WriteBackOptions;
  /** The rollback of each object that waits. */
  readonly #waiting = new Map<string, Rollback>();
  /** What became of the last one of each object. */
  readonly #settled = new Map<string, string>();
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #wake: () => void = () => {};
  #problem: Error | undefined;

  constructor(options: WriteBackOptions) {
    this.#options = options;
  }

  /** Takes note of an object as it is now. */
  see(object: ModelDeployment): void {
    const key = `${object.metadata.namespace}/${object.metadata.name}`;
    const rollback = rollbackOf(object);
    if (rollback === undefined) {
      this.#waiting.delete(key);
      return;
    }
    const known = this.#waiting.get(key);
    if (this.#settled.get(key) === idOf(rollback) || (known !== undefined && idOf(known) === idOf(rollback)))
      return;
    this.#waiting.set(key, rollback);
    this.#wake();
    this.#begin();
  }

  /** Rejects while Git takes nothing. */
  async check(): Promise<void> {
    if (this.#problem !== undefined) throw this.#problem;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    await this.#running;
  }

  #begin(): void {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      if (this.#waiting.size > 0 && !this.#stopping.signal.aborted) this.#begin();
    });
  }

  async #run(): Promise<void> {
    const { log, metrics } = this.#options;
    for (let wait = RETRY_MS.first; !this.#stopping.signal.aborted; ) {
      const [next] = this.#waiting;
      if (next === undefined) return;
      const [key, rollback] = next;
      const about = { deployment: key, revision: rollback.bad.revision };
      try {
        const result = await this.#write(rollback);
        metrics.rollbacks.inc({ result: result.kind });
        log.info({ ...about, ...result }, "rollback in Git");
        this.#settled.set(key, idOf(rollback));
        if (this.#waiting.get(key) === rollback) this.#waiting.delete(key);
        this.#problem = undefined;
        wait = RETRY_MS.first;
      } catch (error) {
        metrics.rollbacks.inc({ result: "failed" });
        log.warn({ ...about, err: error }, "rollback not in Git yet");
        this.#problem = error instanceof Error ? error : new Error(String(error));
        await this.#pause(wait);
        wait = Math.min(wait * 2, RETRY_MS.most);
      }
    }
  }

  async #write(rollback: Rollback) {
    const { open, offsets, log } = this.#options;
    // Evidence is worth having; what is known without it is enough.
    const from = await offsets(rollback.name, rollback.good.revision).catch((error: unknown) => {
      log.warn({ err: error }, "offsets of the rollback are not known");
      return [];
    });
    const repository = await open();
    try {
      return await repository.writeBack(rollback, from);
    } finally {
      await repository.close();
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** One release of one revision. */
function idOf({ bad, endedAt }: Rollback): string {
  return `${bad.revision} ${endedAt}`;
}
