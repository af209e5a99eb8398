import {
  ConsecutiveBreaker,
  ConstantBackoff,
  circuitBreaker,
  handleWhen,
  type IPolicy,
  isBrokenCircuitError,
  retry,
  wrap,
} from "cockatiel";
import type { Logger } from "pino";
import { Counter, type Registry } from "prom-client";
import { BusError } from "#runtime/bus/errors.ts";

const RETRY_MS = 50;
/** So many failures in a row, and it is left alone for a while. */
const FAILURES = 5;
/** After that one asks for all, whether it answers again. */
const OPEN_MS = 250;

export interface DependencyOptions {
  /** Value of the metric's label. */
  readonly name: string;
  /** Tells what passes by waiting from what does not. */
  readonly isAway: (error: unknown) => boolean;
  readonly trips: Counter<"dependency">;
  readonly log: Logger;
  /** Ends waiting. */
  readonly signal: AbortSignal;
}

/** Counts how often circuit breakers opened: an outage is one, however long it lasts. */
export function tripsCounter(registry: Registry): Counter<"dependency"> {
  return new Counter({
    name: "baton_circuit_breaker_trips_total",
    help: "Times that a dependency was given up after failures in a row, until it answered again",
    labelNames: ["dependency"],
    registers: [registry],
  });
}

/**
 * Something that a service cannot go on without. It is asked until it answers, and left alone between tests, by all who
 * ask, once it has failed so often that it is taken for away.
 */
export class Dependency {
  readonly #policy: IPolicy;
  readonly #signal: AbortSignal;

  constructor({ name, isAway, trips, log, signal }: DependencyOptions) {
    this.#signal = signal;
    const breaker = circuitBreaker(handleWhen(isAway), {
      breaker: new ConsecutiveBreaker(FAILURES),
      halfOpenAfter: OPEN_MS,
    });
    let tripped = false;
    breaker.onBreak((reason) => {
      // Each test that fails opens it again.
      if (tripped) return;
      tripped = true;
      trips.inc({ dependency: name });
      log.warn({ dependency: name, err: "error" in reason ? reason.error : undefined }, "away; holding");
    });
    breaker.onReset(() => {
      tripped = false;
      log.info({ dependency: name }, "answers again");
    });
    const waiting = retry(
      handleWhen((error) => isAway(error) || isBrokenCircuitError(error)),
      { maxAttempts: Number.POSITIVE_INFINITY, backoff: new ConstantBackoff(RETRY_MS) },
    );
    trips.inc({ dependency: name }, 0);
    this.#policy = wrap(waiting, breaker);
  }

  /**
   * Resolves with what `work` resolves with in the end. Rejects with what is no outage; with REBALANCED, which ends a
   * batch without its being done, when waiting is ended.
   */
  async ask<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await this.#policy.execute(work, this.#signal);
    } catch (error) {
      if (this.#signal.aborted) throw new BusError("REBALANCED", "stopping", { cause: error });
      throw error;
    }
  }
}
