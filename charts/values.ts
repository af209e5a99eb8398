import * as z from "zod";
import { durationMs } from "#operators/model-deployment/api/kit.ts";

// What a `cluster.yaml` holds: everything that differs between environments.

const replicas = z.int().min(0).max(100);
const name = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "not a DNS label");
export const digestSchema = z
  .string()
  .regex(/^sha256:[0-9a-f]{64}$/, "not sha256: and 64 hexadecimal digits");

const duration = (leastMs: number) =>
  z
    .string()
    .refine(
      (text) => (durationMs(text) ?? 0) >= leastMs,
      `not a duration such as 90s or 1h30m, of ${leastMs} ms or more`,
    );

const range = (least: number, most: number) =>
  z
    .strictObject({ request: z.int().min(least).max(most), limit: z.int().min(least).max(most) })
    .refine(({ request, limit }) => request <= limit, "more is requested than the limit is");

const resourcesSchema = z
  .strictObject({
    cpuMillis: range(10, 64_000),
    memoryMebibytes: range(32, 262_144),
  })
  .describe("what each pod asks for, and may take");

const SMALL = {
  cpuMillis: { request: 100, limit: 1000 },
  memoryMebibytes: { request: 128, limit: 384 },
};

const SERVICE_IMAGES = ["market-data", "features", "signal-model", "operator", "cli"] as const;
const PLATFORM_IMAGES = ["git-write-back", "kafka", "redis", "prometheus", "alertmanager"] as const;
export const IMAGES = [...SERVICE_IMAGES, ...PLATFORM_IMAGES] as const;
export type ImageName = (typeof IMAGES)[number];

const imagesSchema = z
  .strictObject({
    from: z.string().min(1).describe("what stands before the name of each image"),
    tag: z
      .string()
      .min(1)
      .describe("for images that are brought to the nodes by hand: local, kind")
      .optional(),
    digests: z.partialRecord(z.enum(IMAGES), digestSchema).describe("of each image").optional(),
  })
  .refine(
    ({ tag, digests }) => (tag === undefined) !== (digests === undefined),
    "a tag, or digests: one of the two",
  );

const gibibytes = z.int().min(1).max(10_000);

const storage = {
  storageGibibytes: gibibytes
    .describe("a disk of its own; without, its data are on the node and gone with the pod")
    .optional(),
  resources: resourcesSchema,
};

const broughtByCluster = z
  .strictObject({ provide: z.literal("cluster") })
  .describe("the cluster brings it, and its address in the ConfigMap baton-endpoints");

const kafkaSchema = z.discriminatedUnion("provide", [
  broughtByCluster,
  z
    .strictObject({
      provide: z.literal("single"),
      retentionHours: z.int().min(1).max(8_760),
      ...storage,
    })
    .describe("one broker that is its own controller: for development"),
  z
    .strictObject({
      provide: z.literal("strimzi"),
      version: z.string().regex(/^\d+\.\d+\.\d+$/),
      brokers: z.int().min(3).max(15),
      retentionHours: z.int().min(1).max(8_760),
      storageGibibytes: gibibytes,
      resources: resourcesSchema,
    })
    .describe("Strimzi's operator, which has to be there, makes the brokers"),
]);

const redisSchema = z.discriminatedUnion("provide", [
  broughtByCluster,
  z
    .strictObject({ provide: z.literal("single"), resources: resourcesSchema })
    .describe("without a disk: everything in it can be rebuilt"),
  z
    .strictObject({
      provide: z.literal("managed"),
      url: z.url({ protocol: /^rediss?$/, error: "not redis:// or rediss://" }),
    })
    .describe("a service of the cloud or one of your own"),
]);

const prometheusSchema = z.discriminatedUnion("provide", [
  broughtByCluster,
  z.strictObject({
    provide: z.literal("single"),
    retentionDays: z.int().min(1).max(400),
    scrapeInterval: duration(1),
    alertmanager: z.strictObject({ replicas: z.int().min(1).max(3), resources: resourcesSchema }),
    ...storage,
  }),
]);

export const valuesSchema = z
  .strictObject({
    namespace: name.describe("of the services and the models"),
    platformNamespace: name.describe("of Kafka, Redis and Prometheus").default("baton-platform"),
    images: imagesSchema,
    logLevel: z.enum(["trace", "debug", "info", "warn", "error"]),
    kafka: kafkaSchema,
    redis: redisSchema,
    prometheus: prometheusSchema,
    quota: z
      .strictObject({
        pods: z.int().min(1).max(10_000),
        cpu: z.int().min(1).describe("cores of all limits together"),
        memoryGibibytes: z.int().min(1).describe("of all limits together"),
      })
      .describe("the most that the namespace of services and models may take")
      .optional(),
    marketData: z.strictObject({
      topic: z.string(),
      partitions: z.int().min(1).max(1000),
      ratePerSecond: z.number().min(0),
      seed: z.int().min(0),
      resources: resourcesSchema.default(SMALL),
    }),
    features: z
      .strictObject({ replicas, resources: resourcesSchema.default(SMALL) })
      .default({ replicas: 1, resources: SMALL }),
    operator: z.strictObject({
      replicas,
      topicReplicas: z.int().min(1).max(7),
      notificationsSecret: name
        .describe(
          "a Secret with the file notifications.yaml: who is told of what; addresses of webhooks are secret",
        )
        .optional(),
      resources: resourcesSchema.default(SMALL),
    }),
    writeBack: z
      .strictObject({
        repository: z.string().min(1).describe("address of the repository that Argo CD syncs"),
        branch: z.string().min(1).default("main"),
        path: z
          .string()
          .regex(/^[\w./-]+$/)
          .describe("the environment's folder in it"),
        mode: z
          .enum(["push", "branch"])
          .describe("straight to the branch, or to one of its own for a person"),
        secret: name.describe(
          "a Secret with the file credentials (git-credential-store's form), and with signing-key to sign",
        ),
        sign: z.boolean().default(false),
        resources: resourcesSchema.default(SMALL),
      })
      .describe("writes rollbacks back to Git")
      .optional(),
    analysis: z
      .strictObject({
        templates: z.array(z.string()).min(1).describe("which of the ready-made templates watch a release"),
        interval: duration(1_000).describe("how often is measured"),
        window: duration(1).describe("over which time"),
        maxP99Seconds: z
          .string()
          .regex(/^[0-9]{1,6}(\.[0-9]{1,6})?$/, "not a number of seconds")
          .describe("from event to signal; more is harm"),
      })
      .describe("what watches a release"),
    signalModel: z.strictObject({
      deployment: z.string(),
      replicas,
      stepPause: duration(1).describe("how long a release stays at each step"),
      model: z.strictObject({
        name: z.string(),
        version: z.string(),
        uri: z.string(),
        digest: digestSchema,
      }),
    }),
  })
  .superRefine((values, context) => {
    const brought = [values.kafka, values.redis, values.prometheus].filter(
      ({ provide }) => provide === "cluster",
    );
    if (brought.length === 1 || brought.length === 2) {
      context.addIssue({
        code: "custom",
        path: ["kafka", "provide"],
        message: "a cluster brings all of Kafka, Redis and Prometheus, or none of them",
      });
    }
    const { digests } = values.images;
    if (digests === undefined) return;
    for (const image of imagesOf(values)) {
      if (digests[image] !== undefined) continue;
      context.addIssue({ code: "custom", path: ["images", "digests", image], message: "is missing" });
    }
  });

export type Values = z.infer<typeof valuesSchema>;
export type Resources = z.infer<typeof resourcesSchema>;

/** The images that an environment runs. */
export function imagesOf({
  kafka,
  redis,
  prometheus,
  writeBack,
}: Pick<Values, "kafka" | "redis" | "prometheus" | "writeBack">): ImageName[] {
  return [
    ...SERVICE_IMAGES,
    ...(writeBack === undefined ? [] : (["git-write-back"] as const)),
    ...(kafka.provide === "single" ? (["kafka"] as const) : []),
    ...(redis.provide === "single" ? (["redis"] as const) : []),
    ...(prometheus.provide === "single" ? (["prometheus", "alertmanager"] as const) : []),
  ];
}

/** The reference of an image, by tag or by digest. */
export function imageOf({ images }: Pick<Values, "images">, name: ImageName): string {
  const { from, tag, digests } = images;
  if (tag !== undefined) return `${from}/${name}:${tag}`;
  const digest = digests?.[name];
  if (digest === undefined) throw new Error(`no digest of ${name}`);
  return `${from}/${name}@${digest}`;
}
