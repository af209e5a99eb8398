import * as z from "zod";

const responseSchema = z.object({
  status: z.literal("success"),
  data: z.object({
    result: z.array(
      z.object({ metric: z.record(z.string(), z.string()), value: z.tuple([z.number(), z.string()]) }),
    ),
  }),
});

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Asks a Prometheus for an instant vector. Throws when it does not answer in 2 s. */
export async function queryPrometheus(port: number, query: string): Promise<readonly Sample[]> {
  const url = `http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(query)}`;
  const response = await fetch(url, { signal: AbortSignal.timeout(2_000) });
  const parsed = responseSchema.parse(await response.json());
  return parsed.data.result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
}

/** The one value of a query that yields one; undefined when there is none or it is not a number. */
export async function queryValue(port: number, query: string): Promise<number | undefined> {
  const [sample] = await queryPrometheus(port, query);
  return sample === undefined || Number.isNaN(sample.value) ? undefined : sample.value;
}
