import type { Api, KubeObject } from "#operators/controller-kit/api.ts";
import { getJson } from "#runtime/http/index.ts";
import { queryInstant } from "#runtime/prometheus/index.ts";
import { needsBaseline } from "../core/analysis.ts";
import { fillQuery, fillUrl, type Names } from "../core/names.ts";
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

/** A number, or what came instead of one. */
type Reading = { readonly value: number } | { readonly missing: string };

export async function measure(effect: Measure, context: MeasureContext): Promise<Result> {
  // A Job takes its time: what it says is of its end.
  const result = await values(effect, context);
  return { name: effect.name, hash: effect.hash, at: context.now(), ...result };
}

async function values(effect: Measure, context: MeasureContext): Promise<Omit<Result, "name" | "at">> {
  const { candidate, stable } = effect;
  try {
    const [value, samples, ofStable] = await Promise.all([
      one(effect, candidate, context),
      samplesOf(effect, candidate, context),
      stable === undefined ? {} : stableOf(effect, stable, context),
    ]);
    if (samples !== undefined && "missing" in samples && samples.missing !== NO_SERIES)
      return { missing: `samplesQuery: ${samples.missing}` };
    return {
      ...value,
      ...(samples !== undefined && "value" in samples ? { samples: samples.value } : {}),
      ...ofStable,
    };
  } catch (error) {
    return { error: (error as Error).message };
  }
}

/**
 * What the candidate is compared with. Where it is needed for an excuse only, not to have it is no error of the measurement:
 * nothing is excused then.
 */
async function stableOf(
  effect: Measure,
  stable: string,
  context: MeasureContext,
): Promise<Pick<Result, "baseline" | "baselineSamples" | "noBaseline">> {
  const { metric } = effect;
  const excuses = metric.sharedCause !== undefined;
  if (!excuses && !needsBaseline(metric)) return {};
  try {
    const [value, samples] = await Promise.all([
      one(effect, stable, context),
      excuses ? samplesOf(effect, stable, context) : undefined,
    ]);
    return {
      ...("value" in value ? { baseline: value.value } : { noBaseline: value.missing }),
      ...(samples !== undefined && "value" in samples ? { baselineSamples: samples.value } : {}),
    };
  } catch (error) {
    if (needsBaseline(metric)) throw error;
    return { noBaseline: (error as Error).message };
  }
}

function namesOf(effect: Measure, revision: string, { namespace, deployment }: MeasureContext): Names {
  const args = Object.entries(effect.args).map(([name, value]) => [`args.${name}`, value]);
  return { revision, namespace, deployment, window: effect.metric.window, ...Object.fromEntries(args) };
}

async function one(effect: Measure, revision: string, context: MeasureContext): Promise<Reading> {
  const { prometheus, web, job } = effect.metric.provider;
  const names = namesOf(effect, revision, context);
  const { api, owner, signal } = context;
  if (job !== undefined)
    return {
      value: await runJob(api, { owner, provider: job, names, run: `${effect.run} ${revision}`, signal }),
    };
  if (prometheus !== undefined) return query(prometheus, fillQuery(prometheus.query, names), context);
  if (web === undefined) throw new Error("no provider");
  const { url, jsonPath, timeoutSeconds } = web;
  return numberAt(await getJson(fillUrl(url, names), { timeoutMs: timeoutSeconds * 1000, signal }), jsonPath);
}

async function samplesOf(
  effect: Measure,
  revision: string,
  context: MeasureContext,
): Promise<Reading | undefined> {
  const { prometheus } = effect.metric.provider;
  if (prometheus?.samplesQuery === undefined) return undefined;
  return query(prometheus, fillQuery(prometheus.samplesQuery, namesOf(effect, revision, context)), context);
}

/** The number below the names of a path. A text that looks like a number is none. */
function numberAt(body: unknown, path: string): Reading {
  let found = body;
  for (const key of path.split(".")) {
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, key))
      return { missing: `the answer has no ${path}` };
    found = (found as Record<string, unknown>)[key];
  }
  if (typeof found === "number") return numberOf(found);
  const kind = found === null ? "null" : Array.isArray(found) ? "a list" : `a ${typeof found}`;
  return { missing: `${path} is ${kind}, not a number` };
}

/** The one number that a query yields. */
async function query(
  { address }: { readonly address?: string | undefined },
  text: string,
  { prometheus, signal, now }: MeasureContext,
): Promise<Reading> {
  // What people write into an object is seen by whoever reads it: only the operator's own address may hold a password.
  if (address !== undefined && /^[^/]*\/\/[^/?#]*@/.test(address))
    throw new Error("the address holds a user and password: it may not");
  const { samples, warnings } = await queryInstant(address ?? prometheus, text, {
    timeoutMs: TIMEOUT_MS,
    signal,
  });
  if (warnings.length > 0) return { missing: `Prometheus warns: ${warnings.join("; ")}` };
  const [sample, ...others] = samples;
  if (sample === undefined) return { missing: NO_SERIES };
  if (others.length > 0) throw new Error(`the query yields ${samples.length} series, not one`);
  // From a cache, or from one that has fallen behind: it says nothing of the release that runs now.
  const apart = Math.abs(now() - sample.at);
  if (!(apart <= MAX_APART_MS))
    throw new Error(`the answer is ${Math.round(apart / 1_000)} s from our own time`);
  return numberOf(sample.value);
}

const NO_SERIES = "no series";

function numberOf(value: number): Reading {
  if (Number.isFinite(value)) return { value };
  return { missing: Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf" };
}
