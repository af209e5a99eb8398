import { existsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { createConnection } from "node:net";
import { join } from "node:path";
import { LocalError } from "./errors.ts";
import { exec } from "./toolchain/exec.ts";

/** One broker in KRaft mode that is its own controller, alone or as one of several. */
export interface BrokerSpec {
  readonly nodeId: number;
  readonly folder: string;
  readonly port: number;
  readonly controllerPort: number;
  /** Every member of the quorum, this one included. */
  readonly quorum: readonly { readonly nodeId: number; readonly controllerPort: number }[];
  /** Transaction protocol that the cluster begins with, Kafka's own choice unless it is given. */
  readonly transactionVersion?: number;
  /** small: soon there and little memory. server: as one that is there to stay, of which measurements are taken. */
  readonly jvm?: keyof typeof JVM;
}

const CLUSTER_ID = "AAAAAAAAAAAAAAAAAAAAAQ";
const JVM = {
  small: [
    "-Xmx160m",
    "-XX:+UseSerialGC",
    // The quick compiler only: the other one takes a core for the first minutes of a short life.
    "-XX:TieredStopAtLevel=1",
  ],
  server: ["-Xms384m", "-Xmx384m", "-Xmn192m", "-XX:+UseParallelGC"],
} as const;

/** The broker's configuration. Values that differ from Kafka's defaults say why. */
export function serverProperties(spec: BrokerSpec): string {
  const replicas = Math.min(3, spec.quorum.length);
  const voters = spec.quorum.map((member) => `${member.nodeId}@127.0.0.1:${member.controllerPort}`).join(",");
  const settings: Record<string, string | number | boolean> = {
    "process.roles": "broker,controller",
    "node.id": spec.nodeId,
    "controller.quorum.voters": voters,
    listeners: `PLAINTEXT://127.0.0.1:${spec.port},CONTROLLER://127.0.0.1:${spec.controllerPort}`,
    "advertised.listeners": `PLAINTEXT://127.0.0.1:${spec.port}`,
    "inter.broker.listener.name": "PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "log.dirs": join(spec.folder, "data"),
    "auto.create.topics.enable": false,
    "default.replication.factor": replicas,
    "min.insync.replicas": Math.max(1, replicas - 1),
    "offsets.topic.replication.factor": replicas,
    "transaction.state.log.replication.factor": replicas,
    "transaction.state.log.min.isr": Math.max(1, replicas - 1),
    // Few partitions and a small cleaner buffer: a broker of 200 MB instead of 350.
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.num.partitions": 4,
    "log.cleaner.dedupe.buffer.size": 8_388_608,
    // As many threads as this machine has cores for: with the defaults, 8 and 3, a tenth more processor time for the same.
    "num.io.threads": 2,
    "num.network.threads": 1,
    "group.initial.rebalance.delay.ms": 0,
    // Tests that kill members do not wait for the default's 6 s.
    "group.min.session.timeout.ms": 1_000,
    // A transaction's offsets are written at once, not after the wait for others' that the default has.
    "group.coordinator.append.linger.ms": 0,
    // A partition is asked for again after this where a transaction's markers are still being written.
    "add.partitions.to.txn.retry.backoff.ms": 2,
    // A killed broker is let back in after this, not after the default of 9 s.
    "broker.heartbeat.interval.ms": 500,
    "broker.session.timeout.ms": 2_500,
  };
  return Object.entries(settings)
    .map(([key, value]) => `${key}=${value}\n`)
    .join("");
}

const LOGGING = `status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c{1})%n
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server
logger.server.level = INFO
`;

/** Writes a broker's configuration and formats its disk when that is new. */
export async function prepareBroker(libs: string, spec: BrokerSpec): Promise<void> {
  await mkdir(spec.folder, { recursive: true });
  const config = join(spec.folder, "server.properties");
  await writeFile(config, serverProperties(spec));
  await writeFile(join(spec.folder, "log4j2.properties"), LOGGING);
  const data = join(spec.folder, "data");
  if (existsSync(join(data, "meta.properties"))) return;
  // Anything without meta.properties is the rest of an interrupted format.
  await rm(data, { recursive: true, force: true });
  const format = ["format", "-t", CLUSTER_ID, "-c", config];
  if (spec.transactionVersion !== undefined)
    format.push("--feature", `transaction.version=${spec.transactionVersion}`);
  const args = kafkaClass(libs, "kafka.tools.StorageTool", format);
  const result = await exec("java", args).catch((cause: unknown) => {
    throw new LocalError("TOOL_MISSING", "java is not on the PATH: install a Java 17 runtime or later", {
      cause,
    });
  });
  if (result.code !== 0)
    throw new LocalError("BAD_STATE", `Kafka's disk was not formatted:\n${result.tail.join("\n")}`);
}

/** Arguments for `java` that start a broker. */
export function brokerArgs(libs: string, spec: BrokerSpec): string[] {
  return [
    ...JVM[spec.jvm ?? "small"],
    "-XX:+ExitOnOutOfMemoryError",
    `-Dlog4j2.configurationFile=${join(spec.folder, "log4j2.properties")}`,
    ...kafkaClass(libs, "kafka.Kafka", [join(spec.folder, "server.properties")], []),
  ];
}

/** Arguments for `java` that run one of Kafka's own command-line classes. */
export function kafkaClass(
  libs: string,
  mainClass: string,
  args: readonly string[],
  // Without a configuration of its own the logger writes to stdout, among a tool's output.
  jvm: readonly string[] = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=OFF"],
): string[] {
  return [...sharedClasses(libs), ...jvm, "-cp", join(libs, "*"), mainClass, ...args];
}

/** Arguments for `java` by which it starts in half the time, where the classes have been written down. */
function sharedClasses(libs: string): string[] {
  const archive = classArchive(libs);
  // One of another Java is passed over, of which nothing is to be said among a tool's output.
  return existsSync(archive) ? [`-XX:SharedArchiveFile=${archive}`, "-Xlog:disable"] : [];
}

/** Where the classes are that a broker loads from a folder of jars, in the form in which Java can share them. */
export function classArchive(libs: string): string {
  return join(`${libs}-classes`, "shared.jsa");
}

/** Resolves when something accepts connections on the port. */
export function connects(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ port, host: "127.0.0.1", timeout: 1_000 });
    socket.once("connect", () => {
      socket.destroy();
      resolve();
    });
    socket.once("timeout", () => socket.destroy(new Error("timeout")));
    socket.once("error", reject);
  });
}
