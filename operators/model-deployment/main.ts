import { hostname } from "node:os";
import * as z from "zod";
import { KubeApi } from "#operators/controller-kit/api.ts";
import { loadKubeConfig } from "#operators/controller-kit/kubeconfig.ts";
import { LeaderElection } from "#operators/controller-kit/lease.ts";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { kinds } from "#runtime/config/index.ts";
import { runService } from "#runtime/service/index.ts";
import { Notifier, readNotifications } from "./adapters/notify.ts";
import { OperatorMetrics } from "./metrics.ts";
import { Operator } from "./operator.ts";

/** Without a sign of life of the API server for so long the operator makes no progress. */
const QUIET_MS = 120_000;

await runService({
  name: "operator",
  env: {
    KAFKA_BROKERS: kinds.list("Kafka's addresses, host:port separated by commas"),
    PROMETHEUS_URL: z.url("not a URL").describe("the Prometheus that templates ask by default"),
    POD_NAMESPACE: z.string().min(1).describe("the namespace of the lease that operators lead by"),
    POD_NAME: z.string().min(1).describe("what this operator is called").default(hostname()),
    NOTIFICATIONS_FILE: z.string().min(1).describe("a YAML file that says who is told of what").optional(),
    WATCH_NAMESPACE: z.string().min(1).describe("the only namespace to see to; all when absent").optional(),
    TOPIC_REPLICAS: kinds.integer("replicas of topics that are made", 1, 7).default(1),
  },
  async start({ config, log, registry, health, fatal }) {
    const file = config.NOTIFICATIONS_FILE;
    const notifications = file === undefined ? undefined : await readNotifications(file);
    let operator: Operator | undefined;
    const metrics = new OperatorMetrics(registry, () => operator?.lastProgress() ?? 0);
    const api = new KubeApi(loadKubeConfig(), {
      fieldManager: "baton",
      onAnswer: (method, resource, code) => metrics.apiRequests.inc({ method, resource, code }),
    });
    const notifier =
      notifications === undefined
        ? undefined
        : new Notifier({ config: notifications, log, counter: metrics.notifications });
    const bus = new KafkaBus({ brokers: config.KAFKA_BROKERS, clientId: "operator" }, registry);
    let stopping = false;
    const election = new LeaderElection({
      api,
      namespace: config.POD_NAMESPACE,
      name: "baton-operator",
      identity: config.POD_NAME,
      onElected: (epoch) => {
        log.info({ epoch }, "leads");
        operator = new Operator({
          api,
          bus,
          prometheus: config.PROMETHEUS_URL,
          topicReplicas: config.TOPIC_REPLICAS,
          namespace: config.WATCH_NAMESPACE,
          log,
          epoch,
          metrics,
          ...(notifier === undefined ? {} : { notifier }),
        });
        operator.start().catch(fatal);
      },
      onError: (error) => log.warn({ err: error }, "lease"),
      onLost: () => {
        if (!stopping) fatal(new Error("the lease is lost: another operator may lead"));
      },
    });
    election.start();
    // One that waits for its turn is ready; one that leads hears of the API server.
    health.check("api-server", async () => {
      const progress = operator?.lastProgress() ?? 0;
      const quiet = Date.now() - progress;
      if (progress > 0 && quiet > QUIET_MS) throw new Error(`silent for ${Math.round(quiet / 1000)} s`);
    });
    return {
      stop: async () => {
        stopping = true;
        // Before the lease is given back: the next one may begin at once.
        await operator?.stop();
        await notifier?.close();
        await election.stop();
        await bus.close();
        api.close();
      },
    };
  },
});
