import { createHash } from "node:crypto";
import { ApiObject, type Chart } from "cdk8s";
import { labelsOf } from "./labels.ts";
import { addStateful } from "./stateful.ts";
import { imageOf, type Values } from "./values.ts";
import { inWave } from "./waves.ts";

const PORT = 9092;
const CONTROLLER_PORT = 9093;
const FILES = "/etc/kafka";
const DATA = "/var/lib/kafka";
/** Where the image has Kafka's jars. */
const CLASSPATH = "/opt/kafka/libs/*";
const NAME = "kafka";

type Kafka<P extends Values["kafka"]["provide"]> = Extract<Values["kafka"], { provide: P }>;

/** Where services find Kafka; undefined where the cluster itself says that. */
export function kafkaAddress({ kafka, platformNamespace }: Values): string | undefined {
  switch (kafka.provide) {
    case "cluster":
      return undefined;
    case "single":
      return `${NAME}-0.${NAME}.${platformNamespace}.svc:${PORT}`;
    case "strimzi":
      return `${NAME}-kafka-bootstrap.${platformNamespace}.svc:${PORT}`;
  }
}

export function addKafka(scope: Chart, values: Values): void {
  const { kafka } = values;
  if (kafka.provide === "single") addSingle(scope, values, kafka);
  if (kafka.provide === "strimzi") addStrimzi(scope, kafka);
}

/** What the brokers of all environments have in common. */
function settings(replicas: number, retentionHours: number): Record<string, string | number | boolean> {
  return {
    "auto.create.topics.enable": false,
    "default.replication.factor": replicas,
    "min.insync.replicas": Math.max(1, replicas - 1),
    "offsets.topic.replication.factor": replicas,
    "transaction.state.log.replication.factor": replicas,
    "transaction.state.log.min.isr": Math.max(1, replicas - 1),
    "log.retention.hours": retentionHours,
    // A hand-over waits for the offsets of a transaction to be written.
    "group.coordinator.append.linger.ms": 0,
    // And where the last transaction's markers are still being written, a partition asks again after this.
    "add.partitions.to.txn.retry.backoff.ms": 2,
  };
}

function addSingle(scope: Chart, values: Values, kafka: Kafka<"single">): void {
  const { platformNamespace } = values;
  const host = `${NAME}-0.${NAME}.${platformNamespace}.svc`;
  const properties = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.quorum.voters": `1@localhost:${CONTROLLER_PORT}`,
    listeners: `PLAINTEXT://:${PORT},CONTROLLER://localhost:${CONTROLLER_PORT}`,
    "advertised.listeners": `PLAINTEXT://${host}:${PORT}`,
    "inter.broker.listener.name": "PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "log.dirs": `${DATA}/log`,
    // What is written to is never thrown away: small files go sooner.
    "log.segment.bytes": 128 * 1024 * 1024,
    ...settings(1, kafka.retentionHours),
  };
  const heap = Math.floor(kafka.resources.memoryMebibytes.limit / 2);
  const java = (mainClass: string, ...args: string[]) => [
    "java",
    `-Xmx${heap}m`,
    "-XX:+ExitOnOutOfMemoryError",
    "-cp",
    CLASSPATH,
    mainClass,
    ...args,
  ];
  const config = `${FILES}/server.properties`;
  // A disk belongs to one cluster for ever; one that is formatted stays as it is.
  const format = ["format", "--ignore-formatted", "-t", clusterId(platformNamespace), "-c", config];
  addStateful(scope, {
    name: NAME,
    image: imageOf(values, "kafka"),
    prepare: java("kafka.tools.StorageTool", ...format),
    command: java("kafka.Kafka", config),
    ports: [{ name: "kafka", number: PORT }],
    files: {
      "server.properties": Object.entries(properties)
        .map(([key, value]) => `${key}=${value}\n`)
        .join(""),
    },
    filesAt: FILES,
    dataAt: DATA,
    storageGibibytes: kafka.storageGibibytes,
    resources: kafka.resources,
    // It writes its logs to disk and says where it stands, so that it starts quickly.
    graceSeconds: 60,
  });
}

/** Kafka's own form of a UUID: 16 bytes in base64 for URLs. */
function clusterId(seed: string): string {
  return createHash("sha256").update(`kafka/${seed}`).digest().subarray(0, 16).toString("base64url");
}

function addStrimzi(scope: Chart, kafka: Kafka<"strimzi">): void {
  const { version, brokers, retentionHours, storageGibibytes, resources } = kafka;
  const { cpuMillis, memoryMebibytes } = resources;
  const metadata = {
    labels: { ...labelsOf(NAME), "strimzi.io/cluster": NAME },
    annotations: inWave("platform"),
  };
  const apiVersion = "kafka.strimzi.io/v1beta2";
  const of = (which: "request" | "limit") => ({
    cpu: `${cpuMillis[which]}m`,
    memory: `${memoryMebibytes[which]}Mi`,
  });
  new ApiObject(scope, "node-pool", {
    apiVersion,
    kind: "KafkaNodePool",
    metadata: { ...metadata, name: "brokers" },
    spec: {
      replicas: brokers,
      roles: ["controller", "broker"],
      storage: { type: "persistent-claim", size: `${storageGibibytes}Gi`, deleteClaim: false },
      resources: { requests: of("request"), limits: of("limit") },
      template: {
        pod: {
          affinity: {
            podAntiAffinity: {
              requiredDuringSchedulingIgnoredDuringExecution: [
                {
                  labelSelector: { matchLabels: { "strimzi.io/cluster": NAME } },
                  topologyKey: "kubernetes.io/hostname",
                },
              ],
            },
          },
        },
      },
    },
  });
  new ApiObject(scope, NAME, {
    apiVersion,
    kind: "Kafka",
    metadata: {
      ...metadata,
      name: NAME,
      annotations: {
        ...metadata.annotations,
        "strimzi.io/kraft": "enabled",
        "strimzi.io/node-pools": "enabled",
      },
    },
    spec: {
      kafka: {
        version,
        listeners: [{ name: "plain", port: PORT, type: "internal", tls: false }],
        config: settings(Math.min(3, brokers), retentionHours),
      },
      entityOperator: {},
    },
  });
}
