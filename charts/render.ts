import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { App, Chart, Yaml } from "cdk8s";
import { ConfigMap } from "cdk8s-plus-28";
import { parse } from "yaml";
import { definition, KINDS } from "#operators/model-deployment/api/crd.ts";
import { addOperatorFence } from "./fence.ts";
import { addAnalysisTemplates, addInstruments, addSignalModel } from "./models.ts";
import { addOperatorRights } from "./rights.ts";
import { addService } from "./service.ts";
import { type Values, valuesSchema } from "./values.ts";

const clusters = join(import.meta.dirname, "..", "clusters");

/**
 * The manifests of one cluster, by file name. What is under `models/` is of our own kinds: it is applied when the
 * definitions of those are there.
 */
export function renderCluster(values: Values): Map<string, string> {
  const app = new App();
  const files = new Map<string, string>();
  const { images, logLevel, marketData, signalModel } = values;

  const chart = (name: string, build: (chart: Chart) => void) => {
    const scope = new Chart(app, name.replace("/", "-"), {
      namespace: values.namespace,
      disableResourceNameHashes: true,
    });
    build(scope);
    files.set(`${name}.yaml`, Yaml.stringify(...(scope.toJson() as unknown[])));
  };
  const common = (scope: Chart) => ({
    logLevel,
    endpoints: ConfigMap.fromConfigMapName(scope, "endpoints", values.endpointsConfigMap),
  });
  const small = {
    cpuMillis: { request: 100, limit: 1000 },
    memoryMebibytes: { request: 128, limit: 384 },
  };

  chart("market-data", (scope) =>
    addService(scope, {
      ...common(scope),
      ...small,
      name: "market-data",
      image: images.marketData,
      // One source: two would send every message twice.
      replicas: 1,
      single: true,
      env: {
        TOPIC: marketData.topic,
        PARTITIONS: String(marketData.partitions),
        RATE: String(marketData.ratePerSecond),
        SEED: String(marketData.seed),
      },
    }),
  );
  chart("features", (scope) =>
    addService(scope, {
      ...common(scope),
      ...small,
      name: "features",
      image: images.features,
      replicas: 1,
      env: { TOPICS: marketData.topic },
    }),
  );
  chart("operator", (scope) => {
    addService(scope, {
      ...common(scope),
      ...small,
      name: "operator",
      image: images.operator,
      replicas: values.operator.replicas,
      usesApi: true,
      env: { TOPIC_REPLICAS: String(values.operator.topicReplicas) },
    });
    addOperatorRights(scope, values.namespace);
    addOperatorFence(scope, values.namespace);
  });
  chart("models/analysis-templates", (scope) => addAnalysisTemplates(scope, values));
  chart("models/instruments", addInstruments);
  chart(`models/${signalModel.deployment}`, (scope) => addSignalModel(scope, values));
  files.set("crds.yaml", Yaml.stringify(...KINDS.map(definition)));
  return files;
}

/** Every cluster's manifests, by path in the repository. Throws when a `cluster.yaml` is wrong. */
export function renderManifests(): Map<string, string> {
  const files = new Map<string, string>();
  for (const entry of readdirSync(clusters, { withFileTypes: true })) {
    const file = join(clusters, entry.name, "cluster.yaml");
    let text: string;
    try {
      text = readFileSync(file, "utf8");
    } catch {
      continue;
    }
    const parsed = valuesSchema.safeParse(parse(text));
    if (!parsed.success) {
      const problems = parsed.error.issues.map((issue) => `  ${issue.path.join(".")}: ${issue.message}`);
      throw new Error(`clusters/${entry.name}/cluster.yaml is wrong:\n${problems.join("\n")}`);
    }
    for (const [name, content] of renderCluster(parsed.data)) {
      files.set(`clusters/${entry.name}/manifests/${name}`, content);
    }
  }
  return files;
}
