import * as z from "zod";
import { KubeApi } from "#operators/controller-kit/api.ts";
import { loadKubeConfig } from "#operators/controller-kit/kubeconfig.ts";
import { Reflector } from "#operators/controller-kit/reflector.ts";
import { resourceOf } from "#operators/model-deployment/api/crd.ts";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { kinds } from "#runtime/config/index.ts";
import { runService } from "#runtime/service/index.ts";
import { WriteBackMetrics } from "./metrics.ts";
import { handOverOffsets } from "./offsets.ts";
import type { ModelDeployment } from "./plan.ts";
import { Repository } from "./repository.ts";
import { WriteBack } from "./write-back.ts";

await runService({
  name: "git-write-back",
  env: {
    KAFKA_BROKERS: kinds.list("Kafka's addresses, host:port separated by commas"),
    NAMESPACE: z.string().min(1).describe("the namespace of the ModelDeployments").default("baton"),
    GIT_URL: z.string().min(1).describe("the repository that Argo CD syncs"),
    GIT_BRANCH: z.string().min(1).describe("the branch that it syncs").default("main"),
    GIT_PATH: z.string().min(1).describe("the environment's folder in it, such as clusters/prod"),
    GIT_MODE: z
      .enum(["push", "branch"])
      .describe("push: straight to the branch; branch: to one of its own, for a person to merge")
      .default("branch"),
    GIT_CREDENTIALS_FILE: z.string().min(1).describe("a file in the form of git-credential-store").optional(),
    GIT_SSH_KEY_FILE: z.string().min(1).describe("a private key for ssh").optional(),
    GIT_SIGNING_KEY_FILE: z
      .string()
      .min(1)
      .describe("a private key of ssh's form to sign commits with")
      .optional(),
  },
  async start({ config, log, registry, health }) {
    const api = new KubeApi(loadKubeConfig(), { fieldManager: "baton-write-back" });
    const bus = new KafkaBus({ brokers: config.KAFKA_BROKERS, clientId: "git-write-back" }, registry);
    const { GIT_CREDENTIALS_FILE, GIT_SSH_KEY_FILE, GIT_SIGNING_KEY_FILE } = config;
    const writer = new WriteBack({
      open: () =>
        Repository.clone({
          url: config.GIT_URL,
          branch: config.GIT_BRANCH,
          path: config.GIT_PATH,
          mode: config.GIT_MODE,
          ...(GIT_CREDENTIALS_FILE === undefined ? {} : { credentialsFile: GIT_CREDENTIALS_FILE }),
          ...(GIT_SSH_KEY_FILE === undefined ? {} : { sshKeyFile: GIT_SSH_KEY_FILE }),
          ...(GIT_SIGNING_KEY_FILE === undefined ? {} : { signingKeyFile: GIT_SIGNING_KEY_FILE }),
        }),
      offsets: (deployment, revision) => handOverOffsets(bus, deployment, revision),
      metrics: new WriteBackMetrics(registry),
      log,
    });
    const reflector = new Reflector<ModelDeployment>({
      api,
      resource: resourceOf("ModelDeployment"),
      namespace: config.NAMESPACE,
      onChange: (object, change) => {
        if (change !== "deleted") writer.see(object);
      },
      onError: (error) => log.warn({ err: error }, "watch"),
    });
    health.check("git", () => writer.check());
    await reflector.start();
    return {
      stop: async () => {
        await reflector.stop();
        await writer.stop();
        await bus.close();
        api.close();
      },
    };
  },
});
