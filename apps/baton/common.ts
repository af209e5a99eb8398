import type { Command } from "commander";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { REST } from "#runtime/contracts/ledger.ts";

/** An error of use: said without a stack, exit code 1. */
export class UsageError extends Error {}

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

export async function withBus<T>(options: Common, work: (bus: KafkaBus) => Promise<T>): Promise<T> {
  const brokers = options.brokers ?? process.env["KAFKA_BROKERS"];
  if (!brokers) {
    throw new UsageError('say where Kafka is: --brokers host:port, or eval "$(npm run -s cluster -- env)"');
  }
  const bus = new KafkaBus({ brokers: brokers.split(","), clientId: "baton-cli" });
  try {
    return await work(bus);
  } finally {
    await bus.close();
  }
}

const LEDGER = "baton.ledger.";

/** The deployment that is named, or the only one that there is. */
export async function chooseDeployment(bus: KafkaBus, named: string | undefined): Promise<string> {
  const known = (await (await bus.admin()).topics())
    .filter((topic) => topic.startsWith(LEDGER))
    .map((topic) => topic.slice(LEDGER.length))
    .toSorted();
  if (named !== undefined) {
    if (known.includes(named)) return named;
    throw new UsageError(
      `no deployment ${named}; there ${known.length === 0 ? "is none" : `are ${known.join(", ")}`}`,
    );
  }
  const [only, ...others] = known;
  if (only !== undefined && others.length === 0) return only;
  throw new UsageError(
    only === undefined ? "there is no deployment" : `say which deployment you mean: ${known.join(", ")}`,
  );
}

/** Given when the process is told to stop. */
export function stopSignal(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => controller.abort());
  return controller.signal;
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
