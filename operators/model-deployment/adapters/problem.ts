import type { KubeObject } from "#operators/controller-kit/api.ts";
import type { RevisionView } from "../core/observed.ts";
import type { Deployment } from "./deployment.ts";

// Why pods do not come, in one short sentence for people: from what the API server says of them anyway.

/** Characters that are kept of it. */
export const MAX_PROBLEM = 320;

interface Ended {
  readonly exitCode?: number;
  readonly reason?: string;
  readonly message?: string;
}

interface ContainerStatus {
  readonly name?: string;
  readonly ready?: boolean;
  readonly state?: {
    readonly waiting?: { readonly reason?: string; readonly message?: string };
    readonly running?: object;
    readonly terminated?: Ended;
  };
  readonly lastState?: { readonly terminated?: Ended };
}

/** What a pod says of itself, as far as it is looked at here. */
interface TroubledPod extends KubeObject {
  readonly status?: {
    readonly phase?: string;
    readonly reason?: string;
    readonly message?: string;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
    readonly initContainerStatuses?: readonly ContainerStatus[];
    readonly containerStatuses?: readonly ContainerStatus[];
  };
}

/** Why a pod is not ready; undefined where it is, or says nothing of it. */
export function problemOf({ status = {} }: TroubledPod): string | undefined {
  const { conditions = [], initContainerStatuses = [], containerStatuses = [] } = status;
  const isTrue = (type: string) => conditions.some((one) => one.type === type && one.status === "True");
  if (isTrue("Ready")) return undefined;
  // Evicted, refused by the node, out of its deadline.
  if (status.phase === "Failed") return sentence(status.reason ?? "Failed", status.message);
  const unscheduled = conditions.find(({ type, status: is }) => type === "PodScheduled" && is === "False");
  if (unscheduled !== undefined) return sentence(unscheduled.reason ?? "Unschedulable", unscheduled.message);
  const init = initContainerStatuses.find(
    ({ state, ready }) => ready !== true && state?.terminated?.exitCode !== 0,
  );
  // While an init container runs the others only wait for it.
  const one = init ?? containerStatuses.find(({ ready }) => ready !== true);
  return one === undefined ? undefined : containerProblem(one, init === undefined ? "" : "init container ");
}

function containerProblem(
  { name = "", state = {}, lastState }: ContainerStatus,
  kind: string,
): string | undefined {
  const { waiting, terminated } = state;
  const ended = terminated ?? lastState?.terminated;
  const who = `${kind}${name}`;
  // The words of a back-off change with each restart, and say less than how it has ended.
  if (ended !== undefined && (waiting === undefined || ended.exitCode !== 0)) {
    const how = `exit code ${ended.exitCode ?? "?"}${ended.reason === undefined ? "" : ` (${ended.reason})`}`;
    return sentence(
      `${who}: ${waiting?.reason === "CrashLoopBackOff" ? "CrashLoopBackOff, " : ""}${how}`,
      ended.message,
    );
  }
  if (waiting !== undefined) return sentence(`${who}: ${waiting.reason ?? "waits"}`, waiting.message);
  return kind === "" ? sentence(`${who} runs and is not ready`, undefined) : undefined;
}

/** What a revision's pods, or the Deployment that cannot make them, say: one of them is enough. */
export function problemsOf(
  { status }: Deployment,
  pods: readonly {
    readonly metadata: { readonly name: string };
    readonly status?: { readonly problem?: string };
  }[],
): Pick<RevisionView, "problem"> {
  const failure = status?.conditions?.find((one) => one.type === "ReplicaFailure" && one.status === "True");
  const said = pods
    .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
    .flatMap(({ status: of }) => (of?.problem === undefined ? [] : [of.problem]));
  const problem =
    said[0] ?? (failure === undefined ? undefined : sentence("ReplicaFailure", failure.message));
  return problem === undefined ? {} : { problem };
}

/** In one line, and no longer than status has room for. */
function sentence(reason: string, message: string | undefined): string {
  const text = message === undefined || message.trim() === "" ? reason : `${reason}: ${message}`;
  const line = text.replaceAll(/\s+/g, " ").trim();
  return line.length <= MAX_PROBLEM ? line : `${line.slice(0, MAX_PROBLEM - 1)}…`;
}
