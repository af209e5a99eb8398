import * as z from "zod";

const replicas = z.int().min(0).max(100);

/** What a `cluster.yaml` holds: everything that differs between clusters. */
export const valuesSchema = z.strictObject({
  namespace: z.string().regex(/^[a-z0-9-]{1,63}$/),
  images: z.strictObject({
    marketData: z.string(),
    features: z.string(),
    signalModel: z.string(),
    operator: z.string(),
  }),
  endpointsConfigMap: z.string().describe("ConfigMap with KAFKA_BROKERS, REDIS_URL and PROMETHEUS_URL"),
  logLevel: z.enum(["trace", "debug", "info", "warn", "error"]),
  marketData: z.strictObject({
    topic: z.string(),
    partitions: z.int().min(1).max(1000),
    ratePerSecond: z.number().min(0),
    seed: z.int().min(0),
  }),
  operator: z.strictObject({ replicas, topicReplicas: z.int().min(1).max(7) }),
  analysis: z
    .strictObject({
      templates: z.array(z.string()).min(1).describe("which of the ready-made templates watch a release"),
      interval: z.string().describe("how often is measured"),
      window: z.string().describe("over which time"),
      maxP99Seconds: z.string().describe("from event to signal; more is harm"),
    })
    .describe("what watches a release"),
  signalModel: z.strictObject({
    deployment: z.string(),
    replicas,
    stepPause: z.string().describe("how long a release stays at each step"),
    model: z.strictObject({
      name: z.string(),
      version: z.string(),
      uri: z.string(),
      digest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
    }),
  }),
});

export type Values = z.infer<typeof valuesSchema>;
