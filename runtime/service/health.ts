/** A named condition of readiness: resolves (with details, if any) when good, rejects when not. */
export type HealthCheck = () => Promise<unknown>;

export interface CheckResult {
  readonly name: string;
  readonly ok: boolean;
  readonly ms: number;
  readonly details?: object;
  readonly error?: string;
}

export interface Readiness {
  readonly ready: boolean;
  readonly checks: readonly CheckResult[];
}

const CHECK_TIMEOUT_MS = 2_000;

/** The named checks of one service. */
export class Health {
  readonly #checks = new Map<string, HealthCheck>();
  #draining = false;

  check(name: string, check: HealthCheck): void {
    this.#checks.set(name, check);
  }

  /** From now on the service says that it is not ready, so that nothing new is sent to it. */
  drain(): void {
    this.#draining = true;
  }

  /** Runs every check at once, each within a time limit. */
  async readiness(): Promise<Readiness> {
    const checks = await Promise.all([...this.#checks].map(([name, check]) => runCheck(name, check)));
    if (this.#draining) checks.push({ name: "draining", ok: false, ms: 0, error: "the service is stopping" });
    return { ready: checks.every((check) => check.ok), checks };
  }
}

async function runCheck(name: string, check: HealthCheck): Promise<CheckResult> {
  const started = performance.now();
  const elapsed = () => Math.round(performance.now() - started);
  let timer: NodeJS.Timeout | undefined;
  try {
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer in ${CHECK_TIMEOUT_MS} ms`)), CHECK_TIMEOUT_MS);
    });
    const details = await Promise.race([check(), timeout]);
    return {
      name,
      ok: true,
      ms: elapsed(),
      ...(typeof details === "object" && details !== null ? { details } : {}),
    };
  } catch (error) {
    return { name, ok: false, ms: elapsed(), error: error instanceof Error ? error.message : String(error) };
  } finally {
    clearTimeout(timer);
  }
}
