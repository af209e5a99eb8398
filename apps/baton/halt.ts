import { Command } from "commander";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { redisHaltCache, setHalt } from "#runtime/handover/halt.ts";
import { LedgerFollower } from "#runtime/handover/ledger.ts";
import { type Common, common, UsageError } from "./common.ts";

interface Options extends Common {
  readonly redis?: string;
  readonly reason?: string;
}

/** How long Kafka is waited for before Redis has to do. */
const READ_MS = 3_000;

/** `baton halt` and `baton release`: the kill switch. */
export function haltCommands(): Command[] {
  const make = (name: "halt" | "release", what: string) =>
    common(new Command(name))
      .argument("<deployment>", "the deployment")
      .description(what)
      .option("--reason <text>", "why, for those who read it later")
      .option("--redis <url>", "Redis's address (default: REDIS_URL)")
      .action((deployment: string, options: Options) => act(deployment, name === "halt", options));
  return [
    make("halt", "withhold all live decisions of a deployment at once; needs Kafka or Redis, nothing else"),
    make("release", "let a halted deployment decide again; needs a reason"),
  ];
}

async function act(deployment: string, halted: boolean, options: Options): Promise<void> {
  if (!halted && !options.reason?.trim())
    throw new UsageError("a halt is released with a reason only: --reason '…'");
  const brokers = options.brokers ?? process.env["KAFKA_BROKERS"];
  const redis = options.redis ?? process.env["REDIS_URL"];
  if (!brokers || !redis) {
    throw new UsageError(
      'say where Kafka and Redis are: --brokers and --redis, or eval "$(npm run -s cluster -- env)"',
    );
  }
  const bus = new KafkaBus({ brokers: brokers.split(","), clientId: "baton-cli" });
  const cache = redisHaltCache(redis, deployment);
  const follower = new LedgerFollower({ bus, deployment, onFatal: () => {} });
  // Kafka may be away: what is known then comes from Redis and from the clock.
  const read = follower
    .start()
    .then(() => follower.untilEnd())
    .catch(() => {});
  await Promise.race([read, new Promise((resolve) => setTimeout(resolve, READ_MS))]);
  const reason = options.reason ?? "halted by hand";
  const result = await setHalt(bus, deployment, cache, { halted, reason, known: follower.halt });
  const where = [result.kafka ? "Kafka" : "", result.redis ? "Redis" : ""].filter((name) => name !== "");
  const missing = result.kafka && result.redis ? "" : `; ${result.kafka ? "Redis" : "Kafka"} does not answer`;
  if (options.json)
    console.log(JSON.stringify({ deployment, ...result.halt, kafka: result.kafka, redis: result.redis }));
  else
    console.log(
      `${deployment} ${halted ? "halted" : "released"}, written to ${where.join(" and ")}${missing}`,
    );
  cache.close();
  // Connections to a broker that is away are tried for ever: they are left to the end of the process.
  await Promise.race([
    Promise.all([follower.close(), bus.close()]),
    new Promise((resolve) => setTimeout(resolve, 1_000)),
  ]);
  process.exit(0);
}
