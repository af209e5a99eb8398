import { setTimeout as sleep } from "node:timers/promises";
import type { Api, KubeObject, Resource } from "./api.ts";
import { ApiError } from "./errors.ts";

// Of several operators one leads: the holder of a Lease. Whoever has lost it stops before another may begin, by its own
// clock; and because a frozen process knows no clock, what a leader writes carries its epoch, and older ones are refused.

const LEASES: Resource = { group: "coordination.k8s.io", version: "v1", plural: "leases", kind: "Lease" };

export interface LeaseSpec {
  readonly holderIdentity?: string;
  readonly leaseDurationSeconds?: number;
  readonly acquireTime?: string;
  readonly renewTime?: string;
  /** Counts holders: the epoch. */
  readonly leaseTransitions?: number;
}

type Lease = KubeObject & { readonly spec?: LeaseSpec };

export interface ElectionOptions {
  readonly api: Pick<Api, "get" | "create" | "replace">;
  readonly namespace: string;
  readonly name: string;
  readonly identity: string;
  /** Others wait for so long after the last renewal that they saw. */
  readonly leaseMs?: number;
  /** A leader that has not renewed for so long has lost. Less than `leaseMs`. */
  readonly renewDeadlineMs?: number;
  readonly retryMs?: number;
  readonly onElected: (epoch: number) => void;
  /** Called once, when it led and does no longer. */
  readonly onLost: () => void;
  /** Called with each attempt that failed. */
  readonly onError?: (error: unknown) => void;
}

/** What was last seen of a Lease, and when by the clock of who saw it. */
export interface Seen {
  readonly record: string;
  readonly at: number;
}

/**
 * What a candidate may do with a Lease: take it, renew it, or wait. Clocks of different machines are never compared: a
 * Lease has expired when it has not changed for its duration by the clock of who looks at it.
 */
export function leaseStep(
  spec: LeaseSpec | undefined,
  seen: Seen,
  identity: string,
  now: number,
): "take" | "renew" | "wait" {
  if (spec?.holderIdentity === identity) return "renew";
  if (!spec?.holderIdentity) return "take";
  return now - seen.at >= (spec.leaseDurationSeconds ?? 0) * 1000 ? "take" : "wait";
}

export class LeaderElection {
  readonly #options: Required<ElectionOptions>;
  readonly #stop = new AbortController();
  #seen: Seen = { record: "", at: 0 };
  #renewedAt = 0;
  #leading = false;
  #loop: Promise<void> | undefined;

  constructor(options: ElectionOptions) {
    this.#options = {
      leaseMs: 15_000,
      renewDeadlineMs: 10_000,
      retryMs: 2_000,
      onError: () => {},
      ...options,
    };
  }

  get leading(): boolean {
    return this.#leading;
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  /** Gives the Lease back, so that another can begin at once. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    if (!this.#leading) return;
    this.#lose();
    await this.#release().catch(() => {
      // It expires by itself.
    });
  }

  async #run(): Promise<void> {
    const { retryMs, renewDeadlineMs } = this.#options;
    while (!this.#stop.signal.aborted) {
      const guard = setTimeout(
        () => this.#lose(),
        Math.max(0, this.#renewedAt + renewDeadlineMs - Date.now()),
      );
      try {
        await this.#attempt();
      } catch (error) {
        // No answer, or somebody else was quicker: seen at the next attempt.
        this.#options.onError(error);
      } finally {
        clearTimeout(guard);
      }
      if (this.#leading && Date.now() - this.#renewedAt >= renewDeadlineMs) this.#lose();
      await sleep(retryMs * (0.8 + 0.4 * Math.random()), undefined, { signal: this.#stop.signal }).catch(
        () => {},
      );
    }
  }

  async #attempt(): Promise<void> {
    const { api, namespace, name, identity, leaseMs } = this.#options;
    let lease: Lease;
    try {
      lease = await api.get<Lease>(LEASES, namespace, name);
    } catch (error) {
      if (!(error instanceof ApiError && error.kind === "NotFound")) throw error;
      lease = { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name, namespace } };
    }
    const record = JSON.stringify(lease.spec ?? {});
    if (record !== this.#seen.record) this.#seen = { record, at: Date.now() };
    const step = leaseStep(lease.spec, this.#seen, identity, Date.now());
    if (step === "wait") {
      this.#lose();
      return;
    }
    // One that was found with our own name but that we do not lead by is an earlier life's: another epoch.
    const same = step === "renew" && this.#leading;
    const asked = Date.now();
    const time = microTime(asked);
    const epoch = (lease.spec?.leaseTransitions ?? 0) + (same ? 0 : 1);
    const spec: LeaseSpec = {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(leaseMs / 1000),
      acquireTime: same ? (lease.spec?.acquireTime ?? time) : time,
      renewTime: time,
      leaseTransitions: epoch,
    };
    const next: Lease = { ...lease, spec };
    const written =
      lease.metadata.resourceVersion === undefined
        ? await api.create<Lease>(LEASES, next)
        : await api.replace<Lease>(LEASES, next);
    this.#seen = { record: JSON.stringify(written.spec ?? {}), at: Date.now() };
    // Counted from before it was asked for: an answer may take long.
    this.#renewedAt = asked;
    if (this.#leading || this.#stop.signal.aborted) return;
    this.#leading = true;
    this.#options.onElected(epoch);
  }

  #lose(): void {
    if (!this.#leading) return;
    this.#leading = false;
    this.#options.onLost();
  }

  async #release(): Promise<void> {
    const { api, namespace, name, identity } = this.#options;
    const lease = await api.get<Lease>(LEASES, namespace, name);
    if (lease.spec?.holderIdentity !== identity) return;
    const { holderIdentity: _, ...rest } = lease.spec;
    await api.replace<Lease>(LEASES, { ...lease, spec: { ...rest, renewTime: microTime(Date.now()) } });
  }
}

/** A time with microseconds, as Leases have it. */
function microTime(ms: number): string {
  return new Date(ms).toISOString().replace("Z", "000Z");
}
