import { setTimeout as sleep } from "node:timers/promises";
import { Command } from "commander";
import type { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { shownUrl } from "#runtime/http/index.ts";
import { queryInstant } from "#runtime/prometheus/index.ts";
import { connectRedis } from "#runtime/redis/index.ts";
import { type Common, common, numberIn, redisUrlOf, urlOf, withBus } from "./common.ts";

interface Options extends Common {
  readonly redis?: string;
  readonly prometheus?: string;
  readonly topic: string;
  readonly namespace: string;
  readonly within: number;
}

/** Throws, in a sentence, as long as it is not so; resolves with what it saw. */
type Check = () => Promise<string>;

const AGAIN_MS = 1_000;
const ANSWER_MS = 3_000;

/** `baton check`: a smoke test of what the services of a namespace need, and of their work. */
export function checkCommand(): Command {
  return common(new Command("check"))
    .description(
      "whether Kafka, Redis and Prometheus answer, market data flow and every service is seen: a smoke test",
    )
    .option("--redis <url>", "Redis's address (default: REDIS_URL; not looked at where neither is set)")
    .option("--prometheus <url>", "Prometheus' address (default: PROMETHEUS_URL; likewise)")
    .option("--topic <name>", "market data that have to flow", "md.crypto.main")
    .option("-n, --namespace <name>", "of the services", process.env["NAMESPACE"] || "baton")
    .option(
      "--within <seconds>",
      "how long something may take until it is so",
      numberIn(0, "a number of seconds"),
      60,
    )
    .addHelpText("after", "\nExit code 1 when something is not so in time.")
    .action((options: Options) => withBus(options, (bus) => run(bus, options)));
}

async function run(bus: KafkaBus, options: Options): Promise<void> {
  const redis = redisUrlOf(options);
  const prometheus = prometheusUrlOf(options);
  const checks: (readonly [name: string, check: Check])[] = [
    ["kafka", () => marketData(bus, options.topic)],
    ...(redis !== undefined ? [["redis", () => answers(redis)] as const] : []),
    ...(prometheus !== undefined ? [["prometheus", () => seen(prometheus, options.namespace)] as const] : []),
  ];
  const deadline = Date.now() + options.within * 1_000;
  const results = await Promise.all(
    checks.map(async ([name, check]) => {
      const started = Date.now();
      const { ok, says } = await untilSo(check, deadline);
      if (!options.json) console.log(`${ok ? "ok    " : "FAILED"} ${name.padEnd(10)} ${says}`);
      return { name, ok, says, seconds: (Date.now() - started) / 1000 };
    }),
  );
  if (options.json) console.log(JSON.stringify(results));
  if (results.some(({ ok }) => !ok)) process.exitCode = 1;
}

function prometheusUrlOf({ prometheus }: Options): string | undefined {
  const text = prometheus ?? process.env["PROMETHEUS_URL"];
  if (!text?.trim()) return undefined;
  return urlOf(prometheus === undefined ? "PROMETHEUS_URL" : "--prometheus", text, ["http:", "https:"]);
}

async function untilSo(check: Check, deadline: number): Promise<{ ok: boolean; says: string }> {
  for (;;) {
    try {
      return { ok: true, says: await check() };
    } catch (error) {
      if (Date.now() + AGAIN_MS > deadline) return { ok: false, says: (error as Error).message };
      await sleep(AGAIN_MS);
    }
  }
}

async function marketData(bus: KafkaBus, topic: string): Promise<string> {
  const admin = await bus.admin();
  const end = async () =>
    [...(await admin.offsets(topic)).values()].reduce((sum, { latest }) => sum + latest, 0n);
  const before = await end();
  await sleep(AGAIN_MS);
  const more = (await end()) - before;
  if (more > 0n) return `${more} messages a second on ${topic}`;
  throw new Error(`nothing is written to ${topic}`);
}

async function answers(url: string): Promise<string> {
  const redis = connectRedis(url, ANSWER_MS);
  try {
    if (redis.status !== "ready") {
      await Promise.race([
        new Promise((resolve) => redis.once("ready", resolve)),
        sleep(ANSWER_MS).then(() => Promise.reject(new Error("Redis does not answer"))),
      ]);
    }
    await redis.ping();
    return "answers";
  } finally {
    redis.disconnect();
  }
}

/** That Prometheus reads every pod that it knows of in the namespace. */
export async function seen(address: string, namespace: string): Promise<string> {
  const query = `min by (app) (up{namespace=${JSON.stringify(namespace)}})`;
  const { samples, warnings } = await queryInstant(address, query, { timeoutMs: ANSWER_MS }).catch(
    (cause: Error) => {
      throw new Error(`Prometheus at ${shownUrl(address)}: ${cause.message}`, { cause });
    },
  );
  if (warnings.length > 0) throw new Error(`Prometheus warns: ${warnings.join("; ")}`);
  const apps = samples.map(({ labels, value }) => ({ app: labels["app"] ?? "?", isUp: value === 1 }));
  if (apps.length === 0) throw new Error(`Prometheus knows no service in ${namespace}`);
  const down = apps.filter(({ isUp }) => !isUp).map(({ app }) => app);
  if (down.length > 0) throw new Error(`Prometheus does not reach ${down.join(", ")}`);
  return `reads ${apps
    .map(({ app }) => app)
    .toSorted()
    .join(", ")}`;
}
