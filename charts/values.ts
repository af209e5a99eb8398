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
  signalModel: z.strictObject({
    deployment: z.string(),
    replicas,
    model: z.strictObject({ uri: z.string(), digest: z.string().regex(/^sha256:[0-9a-f]{64}$/) }),
  }),
});

export type Values = z.infer<typeof valuesSchema>;
