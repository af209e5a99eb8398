import { createServer, type Server, type ServerResponse } from "node:http";
import { type Tracer, trace } from "@opentelemetry/api";
import { type Logger, pino } from "pino";
import { collectDefaultMetrics, Registry } from "prom-client";
import * as z from "zod";
import { ConfigError, describeEnv, EXIT_CONFIG, kinds, parseEnv } from "#runtime/config/index.ts";
import { Health } from "./health.ts";
import { leaveTerminationMessage } from "./termination.ts";
import { startTracing } from "./tracing.ts";

export type { HealthCheck } from "./health.ts";
export * from "./tracing.ts";

/** Variables that every service has. */
const COMMON = {
  HTTP_HOST: z.string().describe("the address for /livez, /readyz and /metrics").default("0.0.0.0"),
  HTTP_PORT: kinds.integer("the port for /livez, /readyz and /metrics", 0, 65_535).default(8080),
  LOG_LEVEL: z
    .enum(["trace", "debug", "info", "warn", "error"])
    .describe("the least level to log")
    .default("info"),
  DRAIN_SECONDS: kinds.number("most seconds from SIGTERM to exit", 0.1, 3600).default(20),
  OTEL_EXPORTER_OTLP_ENDPOINT: z.url("not a URL").describe("where traces are sent").optional(),
} as const;

/** What a service gets when it starts. */
export interface ServiceContext<T> {
  readonly config: T;
  readonly log: Logger;
  readonly registry: Registry;
  readonly health: Health;
  readonly tracer: Tracer;
  /** Logs the error and ends the process with exit code 1, so that a fresh one takes over. */
  readonly fatal: (error: unknown) => void;
}

export interface ServiceDefinition<T extends z.ZodRawShape> {
  readonly name: string;
  /** Variables of this service, beside the common ones. */
  readonly env: T;
  /** Starts the work; resolves, when it runs, with what ends it. */
  readonly start: (
    context: ServiceContext<z.infer<z.ZodObject<T>>>,
  ) => Promise<{ readonly stop: () => Promise<void> }>;
}

const REDACTED = ["password", "secret", "token", "authorization", "apiKey", "accessKey", "secretKey"];

/** Runs a service for the life of the process. Never returns normally: the process exits. */
export async function runService<T extends z.ZodRawShape>(definition: ServiceDefinition<T>): Promise<void> {
  if (process.argv.includes("--help") || process.argv.includes("-h")) {
    console.log(
      `${definition.name}: set by environment variables\n${describeEnv({ ...definition.env, ...COMMON })}`,
    );
    process.exit(0);
  }
  const common = readConfig(COMMON);
  const own = readConfig(definition.env);
  const problems = [
    ...(common instanceof ConfigError ? common.problems : []),
    ...(own instanceof ConfigError ? own.problems : []),
  ];
  if (common instanceof ConfigError || own instanceof ConfigError) {
    const { message } = new ConfigError(problems);
    leaveTerminationMessage(message);
    console.error(message);
    process.exit(EXIT_CONFIG);
  }
  const log = createLogger(definition.name, common.LOG_LEVEL);
  const fatal = (error: unknown) => {
    log.fatal({ err: error }, "fatal error, exiting");
    leaveTerminationMessage(error instanceof Error ? error.message : String(error));
    process.exit(1);
  };
  process.on("uncaughtException", fatal);
  process.on("unhandledRejection", fatal);

  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const health = new Health();
  const stopTracing = await startTracing(definition.name, common.OTEL_EXPORTER_OTLP_ENDPOINT);
  const server = await listen(createHttp(health, registry), common.HTTP_HOST, common.HTTP_PORT);

  let started = false;
  health.check("started", async () => {
    if (!started) throw new Error("still starting");
  });
  let running: { readonly stop: () => Promise<void> } | undefined;
  let stopping = false;
  const stop = async (signal: string) => {
    if (stopping) process.exit(1);
    stopping = true;
    log.info({ signal }, "stopping");
    health.drain();
    const timer = setTimeout(
      () => fatal(new Error(`not drained in ${common.DRAIN_SECONDS} s`)),
      common.DRAIN_SECONDS * 1000,
    );
    try {
      await running?.stop();
      await stopTracing();
      server.close();
      log.info("stopped");
      clearTimeout(timer);
      process.exit(0);
    } catch (error) {
      fatal(error);
    }
  };
  process.on("SIGTERM", () => void stop("SIGTERM"));
  process.on("SIGINT", () => void stop("SIGINT"));

  try {
    const tracer = trace.getTracer(definition.name);
    running = await definition.start({ config: own, log, registry, health, tracer, fatal });
    started = true;
    log.info({ port: common.HTTP_PORT }, "started");
  } catch (error) {
    fatal(error);
  }
}

function readConfig<T extends z.ZodRawShape>(shape: T): z.infer<z.ZodObject<T>> | ConfigError {
  try {
    return parseEnv(shape);
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
}

/** JSON lines on stdout with the trace that is active; values under secret names are left out. */
export function createLogger(name: string, level: string): Logger {
  return pino(
    {
      name,
      level,
      formatters: { level: (label) => ({ level: label }) },
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: { paths: REDACTED.flatMap((key) => [key, `*.${key}`, `*.*.${key}`]), censor: "[redacted]" },
      mixin: () => {
        const span = trace.getActiveSpan()?.spanContext();
        return span === undefined ? {} : { trace_id: span.traceId, span_id: span.spanId };
      },
    },
    // Synchronous: the last line before an exit is the one that matters.
    pino.destination({ dest: 1, sync: true }),
  );
}

function createHttp(health: Health, registry: Registry): Server {
  return createServer((request, response) => {
    const path = (request.url ?? "/").split("?", 1)[0];
    if (request.method !== "GET") return answer(response, 405, { error: "only GET" });
    switch (path) {
      case "/livez":
        return answer(response, 200, { alive: true });
      case "/readyz":
        void health.readiness().then((state) => answer(response, state.ready ? 200 : 503, state));
        return;
      case "/metrics":
        registry.metrics().then(
          (text) => {
            response.writeHead(200, { "content-type": registry.contentType });
            response.end(text);
          },
          (error: unknown) => answer(response, 500, { error: String(error) }),
        );
        return;
      default:
        return answer(response, 404, { error: "paths are /livez, /readyz and /metrics" });
    }
  });
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(`${JSON.stringify(body)}\n`);
}

function listen(server: Server, host: string, port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    server.once("error", (error) => reject(new Error(`cannot listen on ${host}:${port}: ${error.message}`)));
    server.listen(port, host, () => resolve(server));
  });
}
