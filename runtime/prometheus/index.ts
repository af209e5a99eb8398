import * as z from "zod";
import { AnswerError, excerpt, type GetOptions, get, jsonOf } from "../http/index.ts";

// Instant queries of Prometheus, and of what speaks as it does (Thanos, Mimir, VictoriaMetrics).

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  /** Milliseconds since 1970. */
  readonly at: number;
  /** May be NaN or infinite. */
  readonly value: number;
}

export interface InstantAnswer {
  /** One without labels for a scalar. */
  readonly samples: readonly Sample[];
  /** Why the answer may be wrong or not the whole of it. Remarks (`infos`) are about how a query is written, and left out. */
  readonly warnings: readonly string[];
}

const pair = z.tuple([z.number(), z.string()]);
const labels = z.record(z.string(), z.string()).default({});
const success = z.object({
  warnings: z.array(z.string()).nullish(),
  // VictoriaMetrics' word for a warning: some of its storage has not answered.
  isPartial: z.boolean().nullish(),
  data: z.object({ resultType: z.string(), result: z.unknown() }),
});
const vector = z.array(
  z.object({ metric: labels, value: pair.optional(), histogram: z.unknown().optional() }),
);
const failure = z.object({ status: z.string(), errorType: z.string().default("error"), error: z.string() });

/**
 * Where the API answers: below whatever path the address has, and with its parameters. Throws where it is no address of
 * http or https.
 */
export function queryUrl(address: string, query: string): URL {
  const url = URL.parse(address);
  if (url === null || !/^https?:$/.test(url.protocol)) throw new AnswerError("no address of http or https");
  url.pathname = `${url.pathname.replace(/\/+$/, "")}/api/v1/query`;
  url.hash = "";
  url.searchParams.set("query", query);
  return url;
}

/** Rejects with a sentence that says what came where it is no vector and no scalar of numbers. */
export async function queryInstant(
  address: string,
  query: string,
  options: GetOptions,
): Promise<InstantAnswer> {
  const { status, text } = await get(queryUrl(address, query), options);
  const isGood = status >= 200 && status <= 299;
  let body: unknown;
  try {
    body = jsonOf(text);
  } catch (error) {
    throw isGood ? error : new AnswerError(`HTTP ${status}: ${excerpt(text)}`);
  }
  const refused = failure.safeParse(body);
  if (refused.success) {
    const { errorType, error } = refused.data;
    throw new AnswerError(`${isGood ? "" : `HTTP ${status}: `}${errorType}: ${excerpt(error)}`);
  }
  if (!isGood || (body as { status?: unknown } | null)?.status !== "success")
    throw new AnswerError(`${isGood ? "no answer of Prometheus" : `HTTP ${status}`}: ${excerpt(text)}`);
  const answer = success.safeParse(body);
  if (!answer.success) throw new AnswerError(`no answer of Prometheus: ${excerpt(text)}`);
  const { warnings, isPartial, data } = answer.data;
  return {
    samples: samplesOf(data, text),
    warnings: [...(warnings ?? []), ...(isPartial === true ? ["the answer is partial"] : [])],
  };
}

function samplesOf({ resultType, result }: { resultType: string; result?: unknown }, text: string): Sample[] {
  if (resultType === "scalar") {
    const scalar = pair.safeParse(result);
    if (scalar.success) return [{ labels: {}, ...numberOf(scalar.data) }];
  }
  if (resultType === "matrix") throw new AnswerError("a matrix: values over a range, not one");
  if (resultType === "string") throw new AnswerError("a string, not a number");
  const series = resultType === "vector" ? vector.safeParse(result) : undefined;
  if (series?.success !== true) throw new AnswerError(`no answer of Prometheus: ${excerpt(text)}`);
  return series.data.map(({ metric, value }) => {
    if (value === undefined) throw new AnswerError("a histogram, not a number: take its histogram_quantile");
    return { labels: metric, ...numberOf(value) };
  });
}

const NUMBER = /^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?$/i;

function numberOf([at, text]: readonly [number, string]): Pick<Sample, "at" | "value"> {
  const infinite = /^([+-]?)Inf$/.exec(text);
  if (infinite !== null) return { at: at * 1000, value: infinite[1] === "-" ? -Infinity : Infinity };
  // Number() makes 0 of an empty text.
  if (text !== "NaN" && !NUMBER.test(text))
    throw new AnswerError(`no number: ${JSON.stringify(excerpt(text))}`);
  return { at: at * 1000, value: Number(text) };
}
