import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Api, KubeObject, Resource } from "#operators/controller-kit/api.ts";
import type { JobProvider } from "../api/analysis.ts";
import { fill } from "../core/names.ts";
import { LABELS, restricted } from "./deployment.ts";

// A measurement by a program of the user's own: 1 when it ended well, 0 when it did not.

const JOBS: Resource = { group: "batch", version: "v1", plural: "jobs", kind: "Job" };
const POLL_MS = 1_000;
/** Ended Jobs stay for people to look at. */
const KEPT_SECONDS = 3_600;

interface Job extends KubeObject {
  readonly spec: object;
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}

export interface JobRun {
  readonly owner: KubeObject;
  readonly provider: JobProvider;
  readonly names: Readonly<Record<string, string>>;
  /** Tells this measurement from others of the same object: an operator that takes over finds its Job. */
  readonly run: string;
  readonly signal: AbortSignal;
}

export async function runJob(api: Api, { owner, provider, names, run, signal }: JobRun): Promise<number> {
  const { name, namespace = "", uid = "" } = owner.metadata;
  const hash = createHash("sha256").update(`${uid} ${run}`).digest("hex").slice(0, 10);
  const { container, serviceAccountName, timeoutSeconds } = provider;
  const job: Job = {
    metadata: {
      name: `${name.slice(0, 50)}-${hash}`,
      namespace,
      labels: { [LABELS.measures]: name, "app.kubernetes.io/managed-by": "baton" },
      ownerReferences: [
        { apiVersion: owner.apiVersion ?? "", kind: owner.kind ?? "", name, uid, controller: true },
      ],
    },
    spec: {
      backoffLimit: 0,
      activeDeadlineSeconds: timeoutSeconds,
      ttlSecondsAfterFinished: KEPT_SECONDS,
      template: {
        metadata: { labels: { [LABELS.measures]: name } },
        spec: restricted({
          restartPolicy: "Never",
          ...(serviceAccountName === undefined ? {} : { serviceAccountName }),
          containers: [filled({ name: "main", ...container }, names) as Record<string, unknown>],
        }),
      },
    },
  };
  const { metadata } = await api.apply(JOBS, job);
  const deadline = Date.now() + (timeoutSeconds + 60) * 1000;
  while (Date.now() < deadline) {
    await sleep(POLL_MS, undefined, { signal });
    const { status } = await api.get<Job>(JOBS, namespace, metadata.name);
    const is = (type: string) =>
      status?.conditions?.some((one) => one.type === type && one.status === "True");
    if (is("Complete")) return 1;
    if (is("Failed")) return 0;
  }
  throw new Error(`Job ${metadata.name} has not ended in ${timeoutSeconds} s`);
}

/** A value with the names in all of its texts filled in. */
function filled(value: unknown, names: Readonly<Record<string, string>>): unknown {
  // What looks like a variable of Kubernetes in a value is none.
  if (typeof value === "string") return fill(value, names, (text) => text.replaceAll("$(", () => "$$("));
  if (Array.isArray(value)) return value.map((entry) => filled(entry, names));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, filled(entry, names)]));
}
