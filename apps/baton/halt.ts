import { Command } from "commander";
import { BusError } from "#runtime/bus/errors.ts";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { type HaltCache, redisHaltCache, setHalt } from "#runtime/handover/halt.ts";
import { LedgerFollower } from "#runtime/handover/ledger.ts";
import { brokersOf, type Common, common, deployments, messageOf, redisUrlOf, UsageError } from "./common.ts";
import { noSuch } from "./names.ts";

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
  const brokers = brokersOf(options);
  const redis = redisUrlOf(options);
  if (redis === undefined)
    throw new UsageError(
      'REDIS_URL is not set: say --redis redis://host:port, or eval "$(npm run -s cluster -- env)"',
    );
  const bus = new KafkaBus({ brokers, clientId: "baton-cli" });
  const cache = redisHaltCache(redis, deployment);
  const follower = new LedgerFollower({ bus, deployment, onFatal: () => {} });
  let code = 0;
  try {
    await halt(bus, { deployment, cache, follower, halted, options });
  } catch (error) {
    const where = `Kafka at ${brokers.join(", ")} nor Redis at ${new URL(redis).host}`;
    const isAway = error instanceof BusError && error.code === "BROKER_UNAVAILABLE";
    console.error(`error: ${isAway ? `neither ${where} takes it: nothing is changed` : messageOf(error)}`);
    code = 1;
  }
  cache.close();
  // Connections to a broker that is away are tried for ever: they are left to the end of the process.
  await within(1_000, Promise.all([follower.close(), bus.close()]));
  process.exit(code);
}

async function halt(
  bus: KafkaBus,
  {
    deployment,
    cache,
    follower,
    halted,
    options,
  }: {
    readonly deployment: string;
    readonly cache: HaltCache;
    readonly follower: LedgerFollower;
    readonly halted: boolean;
    readonly options: Options;
  },
): Promise<void> {
  // Kafka may be away: what is known then comes from Redis and from the clock.
  const read = follower.start().then(() => follower.untilEnd());
  const [known] = await Promise.all([within(READ_MS, deployments(bus)), within(READ_MS, read)]);
  if (known !== undefined && !known.includes(deployment)) throw noSuch("deployment", deployment, known);
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
}

/** What work comes to in so many milliseconds; undefined where it fails or takes longer. */
function within<T>(ms: number, work: Promise<T>): Promise<T | undefined> {
  const late = new Promise<undefined>((resolve) => setTimeout(resolve, ms, undefined));
  return Promise.race([work.catch(() => undefined), late]);
}
