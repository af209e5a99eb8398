import { isDeepStrictEqual } from "node:util";
import type { Logger } from "pino";
import type { KubeObject } from "#operators/controller-kit/api.ts";
import { ApiError } from "#operators/controller-kit/errors.ts";
import { FENCE_POLICY } from "../api/fence.ts";
import type { Decision, ModelDeploymentStatus } from "../api/status.ts";
import { reduced } from "../core/fit.ts";
import type { Effect, Note } from "../core/observed.ts";
import type { OperatorMetrics } from "../metrics.ts";
import type { Cluster } from "./cluster.ts";
import type { Publisher } from "./publish.ts";
import type { CustomObject } from "./view.ts";

// Writes statuses, also those that the API server does not take as they are: then only decisions and facts, without what is
// for people. Where it takes not even these, what leads back to stable is remembered here and done; nothing else is.

type Status = ModelDeploymentStatus;

export interface StatusWriterOptions {
  readonly cluster: Pick<Cluster, "writeStatus">;
  readonly publisher: Pick<Publisher, "announce">;
  readonly log: Logger;
  readonly metrics: OperatorMetrics | undefined;
}

/** One whole status in so long is tried where it was refused. */
const WHOLE_AGAIN_MS = 5 * 60_000;
/** Where nothing could be written it is tried again sooner. */
const ANYTHING_AGAIN_MS = 10_000;

interface Refused {
  /** Milliseconds since 1970 from when on it is tried again. */
  readonly tryAt: number;
  /** What is gone by, where nothing could be written; lost with this process. */
  readonly remembered: Status | undefined;
}

export class StatusWriter {
  readonly #options: StatusWriterOptions;
  readonly #refused = new Map<string, Refused>();

  constructor(options: StatusWriterOptions) {
    this.#options = options;
  }

  /** The status that an object is to be seen to by. */
  known(key: string, stored: Status): Status {
    return this.#refused.get(key)?.remembered ?? stored;
  }

  /** What of a status is to be written now. */
  shape(key: string, status: Status): Status {
    return this.#refused.has(key) ? reduced(status) : status;
  }

  /** In how many milliseconds what was refused is to be tried again; undefined where nothing was. */
  tryIn(key: string, now: number): number | undefined {
    const tryAt = this.#refused.get(key)?.tryAt;
    return tryAt === undefined ? undefined : Math.max(0, tryAt - now);
  }

  /** What may be done by a status: where it could not be written only what is safe without. */
  allowed(key: string, effects: readonly Effect[]): readonly Effect[] {
    const remembered = this.#refused.get(key)?.remembered;
    if (remembered === undefined) return effects;
    const stable = remembered.stable?.revision;
    return effects.filter(
      (effect) =>
        // One that has begun in nobody's memory is not measured: what that says would be forgotten, and asked for again.
        (effect.kind === "Measure" && effect.candidate === remembered.candidate?.revision) ||
        (effect.kind === "Route" && effect.to === stable) ||
        (effect.kind === "Scale" && (effect.revision === stable || effect.replicas === 0)),
    );
  }

  /** Whether nothing of an object's status can be written for now. */
  isRemembered(key: string): boolean {
    return this.#refused.get(key)?.remembered !== undefined;
  }

  forget(key: string): void {
    this.#refused.delete(key);
  }

  /**
   * Writes a status, or what of it the API server takes. Resolves with the object; with `remembered` where nothing was written and
   * something has changed that is gone by all the same; with undefined where nothing follows. Rejects with an ApiError that is no
   * refusal of the status.
   */
  async write(
    key: string,
    object: KubeObject,
    status: Status,
    events: readonly Note[],
    now: number,
  ): Promise<CustomObject | "remembered" | undefined> {
    const { cluster } = this.#options;
    const before = this.#refused.get(key);
    const isDue = before === undefined || now >= before.tryAt;
    if (isDue) {
      const written = await this.#try(() => cluster.writeStatus(object, status), key, object, "reduced", now);
      if (written !== undefined) {
        this.#refused.delete(key);
        return written;
      }
    }
    const facts = reduced(status);
    if (isDue || before.remembered === undefined) {
      const written = await this.#try(
        () => cluster.writeStatus(object, facts),
        key,
        object,
        "unwritten",
        now,
      );
      if (written !== undefined) {
        const tryAt = isDue ? now + WHOLE_AGAIN_MS : before.tryAt;
        this.#refused.set(key, { tryAt, remembered: undefined });
        await this.#options.publisher.announce(object, status, events, now);
        return written;
      }
    }
    const known = this.known(key, (object as CustomObject).status ?? {});
    const remembered = rememberedOf(known, facts);
    this.#refused.set(key, { tryAt: isDue ? now + ANYTHING_AGAIN_MS : before.tryAt, remembered });
    if (isDeepStrictEqual(remembered, known)) return undefined;
    if (remembered.decision !== known.decision) {
      await this.#options.publisher.announce(object, status, events, now);
    }
    return "remembered";
  }

  /** Undefined where the status is refused. */
  async #try(
    write: () => Promise<CustomObject>,
    key: string,
    object: KubeObject,
    result: "reduced" | "unwritten",
    now: number,
  ): Promise<CustomObject | undefined> {
    try {
      return await write();
    } catch (error) {
      if (!isRefusal(error)) throw error;
      const { log, metrics, publisher } = this.#options;
      log.error({ key, err: error, result }, "the API server refuses the status");
      metrics?.statusRefusals.inc({ result });
      const what = result === "reduced" ? "without what is for people" : "not at all";
      const message = `the API server refuses the status, which is written ${what}: ${error.message}`;
      await publisher.announce(object, {}, [{ type: "Warning", reason: "StatusRefused", message }], now);
      return undefined;
    }
  }
}

/** Whether the API server will not have this status, whoever asks and whenever. */
function isRefusal(error: unknown): error is ApiError {
  if (!(error instanceof ApiError)) return false;
  // The fence is about who writes. Where it cannot be evaluated it refuses every status.
  if (error.message.includes(FENCE_POLICY)) return false;
  // etcd's own limit comes back as a failure of the server.
  return error.kind === "Invalid" || /too large/i.test(error.message);
}

const leadsBack = (decision: Decision | undefined) => decision !== undefined && decision.kind !== "Promote";

/** What is gone by without having been written: the way back, and what was measured. Never a step forward. */
function rememberedOf(known: Status, facts: Status): Status {
  if (leadsBack(facts.decision) || (leadsBack(known.decision) && facts.candidate === undefined)) return facts;
  const { analysis } = facts;
  return { ...known, ...(analysis === undefined ? {} : { analysis }) };
}
