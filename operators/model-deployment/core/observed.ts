import type { Report } from "#runtime/handover/rules.ts";
import type { AnalysisTemplateSpec, Metric } from "../api/analysis.ts";
import type { Instrument, ModelDeploymentSpec } from "../api/model-deployment.ts";
import type { ModelDeploymentStatus } from "../api/status.ts";

// What a pass sees, and what it wants done. Both are values: deciding needs no client and no clock.

export interface Observed {
  /** Milliseconds since 1970. */
  readonly now: number;
  readonly object: {
    readonly name: string;
    readonly namespace: string;
    readonly generation: number;
    readonly spec: ModelDeploymentSpec;
    readonly status: ModelDeploymentStatus;
    readonly command: Command | Unreadable | undefined;
  };
  /** Why the spec cannot be acted on; the stable revision goes on as it is. */
  readonly invalid: string | undefined;
  /** Of the spec, or of the set that it names. */
  readonly instruments: readonly Instrument[];
  /** The templates that the spec names. */
  readonly templates: ReadonlyMap<string, AnalysisTemplateSpec>;
  readonly revisions: readonly RevisionView[];
  /** undefined for a model without a stream. */
  readonly stream: StreamView | undefined;
  /** Measurements that were made since the last pass. */
  readonly results: readonly Result[];
}

/** A revision as its pods and its workers show it. */
export interface RevisionView {
  readonly revision: string;
  /** Replicas that it is to have. */
  readonly replicas: number;
  /** Ready for minReadySeconds. */
  readonly available: number;
  /** Every replica reports the model digest and the configuration that it should. */
  readonly coherent: boolean;
  /** What one reports that it should not; absent where none does, also where some have not reported yet. */
  readonly deviation?: string | undefined;
  /** Somebody else has changed its Deployment's spec since the operator wrote or first saw it. */
  readonly edited?: boolean | undefined;
  /** What is wrong with its disruption budget; absent where nothing is. */
  readonly budget?: "missing" | "changed" | undefined;
  /** The restart that its pods have had last; a time. */
  readonly restartedAt?: string;
  /** Milliseconds since 1970 since when the youngest of its replicas is ready; absent where none is. */
  readonly readySince?: number | undefined;
  /** Milliseconds since 1970 of when a container began that had to be started again, the latest; absent where none had. */
  readonly crashedAt?: number | undefined;
  /** Milliseconds since 1970 since when it lacks replicas, and the last one has gone; absent where it has enough. */
  readonly downSince?: number | undefined;
  /** Why pods do not come, or do not stay, in one short sentence; absent where nothing is said of it. */
  readonly problem?: string | undefined;
}

/** The ledger as it stands. */
export interface StreamView {
  /** Kafka answers: the rest is of now. */
  readonly reachable: boolean;
  /** The kill switch. */
  readonly halted: boolean;
  /** Who decides on each instrument, and on `*`: all that has no name; undefined where partitions differ. */
  readonly owners: ReadonlyMap<string, string | undefined>;
  /** Where what is being moved goes to; undefined when nothing is. */
  readonly movingTo: string | undefined;
  readonly epoch: number;
  /** What the latest worker of each revision in each partition says of itself; undefined until the ledger has been read. */
  readonly reports: Reports | undefined;
}

export type Reports = ReadonlyMap<string, readonly (Report | undefined)[]>;

export const VERBS = [
  "promote",
  "promote-full",
  "approve",
  "pause",
  "resume",
  "abort",
  "retry",
  "undo",
  "restart",
] as const;
export type Verb = (typeof VERBS)[number];

/** What a person has asked for. */
export interface Command {
  /** Each is done once. */
  readonly id: string;
  readonly verb: Verb;
  /** The candidate that is meant, or without one the stable revision: what was meant for another one does nothing. */
  readonly revision: string;
  /** undo: the revision to go back to; the one that was stable before when absent. */
  readonly to?: string | undefined;
  /** approve: the gate, and what the person calls themselves. */
  readonly gate?: string | undefined;
  readonly by?: string | undefined;
  /** For people. */
  readonly reason?: string | undefined;
  /** Every notification service is told. */
  readonly notify?: boolean | undefined;
}

/** What a person has asked for in a way that cannot be obeyed: it is answered all the same. */
export interface Unreadable {
  readonly id: string;
  readonly verb: string;
  /** What is wrong with it. */
  readonly problem: string;
}

/** One measurement. */
export interface Result {
  readonly name: string;
  /** By which definition, of which revision; absent where nobody has asked. */
  readonly hash?: string;
  readonly at: number;
  readonly value?: number;
  /** The same of the stable revision. */
  readonly baseline?: number;
  /** On how many samples the value rests. */
  readonly samples?: number;
  /** On how many samples the baseline rests; measured for a shared cause only. */
  readonly baselineSamples?: number;
  /** What came instead of a value. */
  readonly missing?: string;
  /** What came instead of a baseline. */
  readonly noBaseline?: string;
  /** Why there is no value. */
  readonly error?: string;
}

export type Effect =
  /** The revision's Deployment is there and has so many replicas. */
  | {
      readonly kind: "Scale";
      readonly revision: string;
      readonly replicas: number;
      readonly template: "spec" | "own";
    }
  /** The revision's disruption budget is there, as it is made. */
  | { readonly kind: "Protect"; readonly revision: string }
  | { readonly kind: "DeleteRevision"; readonly revision: string }
  /** Its pods are made anew, one after the other. */
  | { readonly kind: "Restart"; readonly revision: string; readonly at: string }
  /** Instruments (`*`: everything) are handed over. */
  | {
      readonly kind: "Route";
      readonly instruments: readonly string[];
      readonly to: string;
      /** Not before the revision computes what comes in now: until it does, nobody would decide. Never on the way back. */
      readonly caughtUp: boolean;
    }
  | {
      readonly kind: "Measure";
      readonly name: string;
      /** Of the definition and the candidate: the result carries it. */
      readonly hash: string;
      readonly metric: Metric;
      readonly args: Readonly<Record<string, string>>;
      readonly candidate: string;
      readonly stable: string | undefined;
      /** Tells it from other measurements; the same after a restart of the operator. */
      readonly run: string;
    };

export interface Note {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly message: string;
}

export interface Plan {
  readonly status: ModelDeploymentStatus;
  readonly effects: readonly Effect[];
  readonly events: readonly Note[];
  /** Milliseconds until the next look, where something is to happen by itself. */
  readonly next: number | undefined;
}
