import type { Bus } from "#runtime/bus/port.ts";
import type { LedgerFollower } from "./ledger.ts";
import type { handoverMetrics } from "./metrics.ts";
import type { Destinations } from "./outcome.ts";
import type { Place, Report } from "./rules.ts";

/** Points of the protocol at which a test may stop a worker. */
export const STEPS = [
  "fenced",
  "position-read",
  "ledger-read",
  "decided",
  "committed",
  "releasing",
  "released",
  "taking",
  "filled",
  "taken",
] as const;
export type Step = (typeof STEPS)[number];

/** Protections that are switched off. */
export type Unsafe = "fencing" | "ledger-read" | "same-transaction";

/** What the workers of one revision in one process share. */
export interface Revision {
  readonly bus: Bus;
  readonly deployment: string;
  readonly revision: string;
  /** What its workers say of themselves when they join. */
  readonly report: Report;
  readonly follower: LedgerFollower;
  readonly halted: () => boolean;
  readonly destinations: Destinations;
  /** Where a revision without predecessors begins. */
  readonly from: "earliest" | "latest";
  readonly ringBytes: number;
  /** Most live decisions of one transaction of a take-over; the last one takes. */
  readonly fillRecords: number;
  /** A position goes with a transaction once in so long: a request less in all the others (ADR 23). */
  readonly positionMs: number;
  /** One that is behind by more records that it need not decide begins anew when it comes back (ADR 36). */
  readonly owedRecords: number;
  /** A batch waits for a release that was asked for, at most so long for each request (ADR 24). */
  readonly releaseSoonMs: number;
  readonly metrics: ReturnType<typeof handoverMetrics>;
  /** For tests that show what a protection prevents. */
  readonly unsafe?: Unsafe;
  readonly hook?: (step: Step, place: Place) => Promise<void> | void;
}
