import * as z from "zod";
import type { Api, KubeObject } from "#operators/controller-kit/api.ts";
import { needsBaseline } from "../core/analysis.ts";
import { fill } from "../core/names.ts";
import type { Effect, Result } from "../core/observed.ts";
import { runJob } from "./job.ts";

// Measurements. Whatever goes wrong becomes a result that says so: it is for the core to judge.

export interface MeasureContext {
  readonly prometheus: string;
  readonly namespace: string;
  readonly deployment: string;
  /** Jobs are its. */
  readonly owner: KubeObject;
  readonly api: Api;
  readonly signal: AbortSignal;
  readonly now: () => number;
}

type Measure = Effect & { kind: "Measure" };

const TIMEOUT_MS = 5_000;
/** How far the time of an answer may be from our own clock. */
const MAX_APART_MS = 60_000;
const MAX_ANSWER_BYTES = 1024 * 1024;

const prometheusAnswer = z.object({
  status: z.literal("success"),
  data: z.discriminatedUnion("resultType", [
    z.object({
      resultType: z.literal("vector"),
      result: z.array(z.object({ value: z.tuple([z.number(), z.string()]) })),
    }),
    z.object({ resultType: z.literal("scalar"), result: z.tuple([z.number(), z.string()]) }),
  ]),
});

export async function measure(effect: Measure, context: MeasureContext): Promise<Result> {
  // A Job takes its time: what it says is of its end.
  const result = await values(effect, context);
  return { name: effect.name, hash: effect.hash, at: context.now(), ...result };
}

async function values(effect: Measure, context: MeasureContext): Promise<Omit<Result, "name" | "at">> {
  const { metric, candidate, stable } = effect;
  try {
    const [value, baseline, samples] = await Promise.all([
      one(effect, candidate, context),
      needsBaseline(metric) && stable !== undefined ? one(effect, stable, context) : undefined,
      samplesOf(effect, candidate, context),
    ]);
    return {
      ...(value === undefined ? {} : { value }),
      ...(baseline === undefined ? {} : { baseline }),
      ...(samples === undefined ? {} : { samples }),
    };
  } catch (error) {
    return { error: (error as Error).message };
  }
}

function namesOf(
  effect: Measure,
  revision: string,
  { namespace, deployment }: MeasureContext,
): Record<string, string> {
  const args = Object.entries(effect.args).map(([name, value]) => [`args.${name}`, value]);
  return { revision, namespace, deployment, window: effect.metric.window, ...Object.fromEntries(args) };
}

async function one(effect: Measure, revision: string, context: MeasureContext): Promise<number | undefined> {
  const { prometheus, web, job } = effect.metric.provider;
  const names = namesOf(effect, revision, context);
  if (job !== undefined) {
    const { api, owner, signal } = context;
    return runJob(api, { owner, provider: job, names, run: `${effect.run} ${revision}`, signal });
  }
  if (prometheus !== undefined) {
    return query(prometheus.address ?? context.prometheus, fill(prometheus.query, names), context.now());
  }
  if (web === undefined) throw new Error("no provider");
  const body = await getJson(fill(web.url, names), web.timeoutSeconds * 1000);
  const found = web.jsonPath.split(".").reduce<unknown>((inner, key) => {
    return typeof inner === "object" && inner !== null ? (inner as Record<string, unknown>)[key] : undefined;
  }, body);
  return typeof found === "number" ? found : undefined;
}

async function samplesOf(
  effect: Measure,
  revision: string,
  context: MeasureContext,
): Promise<number | undefined> {
  const { prometheus } = effect.metric.provider;
  if (prometheus?.samplesQuery === undefined) return undefined;
  const text = fill(prometheus.samplesQuery, namesOf(effect, revision, context));
  return query(prometheus.address ?? context.prometheus, text, context.now());
}

/** The one number that a query yields; undefined when it yields none. */
async function query(address: string, text: string, now: number): Promise<number | undefined> {
  const url = new URL("/api/v1/query", address);
  url.searchParams.set("query", text);
  const { data } = prometheusAnswer.parse(await getJson(url.href, TIMEOUT_MS));
  if (data.resultType === "vector" && data.result.length > 1)
    throw new Error(`the query yields ${data.result.length} series, not one`);
  const [at, value] = data.resultType === "scalar" ? data.result : (data.result[0]?.value ?? []);
  if (at === undefined || value === undefined) return undefined;
  // From a cache, or from one that has fallen behind: it says nothing of the release that runs now.
  const apart = Math.abs(now - at * 1_000);
  if (apart > MAX_APART_MS) throw new Error(`the answer is ${Math.round(apart / 1_000)} s from our own time`);
  return Number(value);
}

async function getJson(url: string, timeoutMs: number): Promise<unknown> {
  const response = await fetch(url, { signal: AbortSignal.timeout(timeoutMs), redirect: "error" });
  const text = await response.text();
  if (!response.ok) throw new Error(`HTTP ${response.status}: ${text.slice(0, 200)}`);
  if (text.length > MAX_ANSWER_BYTES) throw new Error("an answer of more than 1 MiB");
  return JSON.parse(text);
}
