import { measure } from "#operators/model-deployment/adapters/measure.ts";
import { analysisTemplateSpec } from "#operators/model-deployment/api/analysis.ts";
import type { Measurement } from "#operators/model-deployment/api/status.ts";
import { judge } from "#operators/model-deployment/core/analysis.ts";

export interface Measured {
  /** A metric of a template. */
  readonly metric: object;
  readonly args?: Readonly<Record<string, string>>;
  /** Address of the operator's own Prometheus. */
  readonly prometheus: string;
}

/** One measurement of r-2 beside r-1, as the operator makes it and the core judges it. Not by a Job. */
export async function verdictOf({ metric, args = {}, prometheus }: Measured): Promise<Measurement> {
  const [parsed] = analysisTemplateSpec.parse({ metrics: [metric] }).metrics;
  if (parsed === undefined) throw new Error("no metric");
  const result = await measure(
    {
      ...{ kind: "Measure", name: "m", hash: "", metric: parsed, args },
      ...{ candidate: "r-2", stable: "r-1", run: "x" },
    },
    {
      prometheus,
      namespace: "trading",
      deployment: "momentum",
      owner: { metadata: { name: "x" } },
      // Only Jobs need one.
      api: undefined as never,
      signal: new AbortController().signal,
      now: Date.now,
    },
  );
  return judge(parsed, result);
}
