import type { Command } from "commander";
import { InvalidArgumentError } from "commander";
import { BusError } from "#runtime/bus/errors.ts";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { REST } from "#runtime/contracts/ledger.ts";
import { noSuch } from "./names.ts";
import { UsageError } from "./usage.ts";

export { errnoOf, messageOf, UsageError } from "./usage.ts";

export interface Common {
  readonly brokers?: string;
  readonly json?: boolean;
}

/** Adds the options that every command has. */
export function common(command: Command): Command {
  return command
    .option("--brokers <list>", "Kafka's addresses (default: KAFKA_BROKERS)")
    .option("--json", "print JSON");
}

const WHERE = 'or eval "$(npm run -s cluster -- env)"';

/** Kafka's addresses: what was given, or KAFKA_BROKERS. */
export function brokersOf({ brokers }: Common): string[] {
  const text = brokers ?? process.env["KAFKA_BROKERS"];
  if (!text?.trim()) throw new UsageError(`KAFKA_BROKERS is not set: say --brokers host:port, ${WHERE}`);
  return text.split(",").map((entry) => {
    const [, host, port] = /^\s*([\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5})\s*$/.exec(entry) ?? [];
    if (host !== undefined && Number(port) >= 1 && Number(port) <= 65_535) return `${host}:${Number(port)}`;
    const from = brokers === undefined ? "KAFKA_BROKERS" : "--brokers";
    throw new UsageError(`${from}: ${JSON.stringify(entry.slice(0, 80))} is no address: host:port,host:port`);
  });
}

/** Redis's address: what was given, or REDIS_URL; undefined where neither is. */
export function redisUrlOf({ redis }: { readonly redis?: string }): string | undefined {
  const text = redis ?? process.env["REDIS_URL"];
  if (!text?.trim()) return undefined;
  return urlOf(redis === undefined ? "REDIS_URL" : "--redis", text, ["redis:", "rediss:"]);
}

/** An address as it was given; throws where it is none with one of these protocols. */
export function urlOf(from: string, text: string, protocols: readonly string[]): string {
  if (URL.canParse(text) && protocols.includes(new URL(text).protocol)) return text;
  throw new UsageError(
    `${from}: ${JSON.stringify(text.slice(0, 80))} is no address: ${protocols[0]}//host:port`,
  );
}

export async function withBus<T>(options: Common, work: (bus: KafkaBus) => Promise<T>): Promise<T> {
  const brokers = brokersOf(options);
  const bus = new KafkaBus({ brokers, clientId: "baton-cli" });
  try {
    return await work(bus);
  } catch (error) {
    throw error instanceof BusError && error.code === "BROKER_UNAVAILABLE"
      ? new UsageError(
          `Kafka does not answer at ${brokers.join(", ")}: is it running, and is that its address? (npm run cluster -- status)`,
          { cause: error },
        )
      : error;
  } finally {
    await bus.close();
  }
}

/** A number that an option gives; commander says whose. */
export function numberIn(
  least: number,
  what: string,
  isWhole = false,
  most = Number.MAX_SAFE_INTEGER,
): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (
      text.trim() !== "" &&
      Number.isFinite(value) &&
      value >= least &&
      value <= most &&
      (!isWhole || Number.isInteger(value))
    )
      return value;
    throw new InvalidArgumentError(`not ${what}`);
  };
}

const LEDGER = "baton.ledger.";

/** The deployment that is named, or the only one that there is. */
export async function chooseDeployment(bus: KafkaBus, named: string | undefined): Promise<string> {
  const known = await deployments(bus);
  if (named !== undefined) {
    if (known.includes(named)) return named;
    throw noSuch("deployment", named, known);
  }
  const [only, ...others] = known;
  if (only !== undefined && others.length === 0) return only;
  throw new UsageError(
    only === undefined ? "there is no deployment" : `say which deployment you mean: ${known.join(", ")}`,
  );
}

/** Names of the deployments that have a ledger. */
export function deployments(bus: KafkaBus): Promise<readonly string[]> {
  return named(bus, LEDGER);
}

/** The rest of the names of topics that begin alike. */
export async function named(bus: KafkaBus, prefix: string): Promise<readonly string[]> {
  const all = await (await bus.admin()).topics();
  return all
    .filter((topic) => topic.startsWith(prefix))
    .map((topic) => topic.slice(prefix.length))
    .toSorted();
}

let stop: AbortSignal | undefined;

/** Given when the process is told to stop. */
export function stopSignal(): AbortSignal {
  if (stop !== undefined) return stop;
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => controller.abort());
  stop = controller.signal;
  return stop;
}

/** An instrument for people. */
export function instrumentName(key: string): string {
  return key === REST ? "all others" : key;
}

/** Columns of text, each as wide as its widest entry. */
export function columns(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
