import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { App, Chart, Yaml } from "cdk8s";
import { ConfigMap } from "cdk8s-plus-28";
import { parseAllDocuments } from "yaml";
import { definition, KINDS } from "#operators/model-deployment/api/crd.ts";
import { type Held, type ObjectKind, readArgo, renderArgo } from "./argocd.ts";
import { addOperatorFence } from "./fence.ts";
import { addKafka } from "./kafka.ts";
import { addAnalysisTemplates, addInstruments, addSignalModel } from "./models.ts";
import { addNetworkPolicies } from "./network.ts";
import { addEndpoints, addNamespaces, addQuota, ENDPOINTS } from "./platform.ts";
import { CLUSTER_SCOPED, type Manifest } from "./policies.ts";
import { addPrometheus } from "./prometheus.ts";
import { readYaml } from "./read.ts";
import { addRedis } from "./redis.ts";
import { addOperatorRights } from "./rights.ts";
import { addService } from "./service.ts";
import { addCliAccount, addSmokeTest } from "./smoke-test.ts";
import { imageOf, type Values, valuesSchema } from "./values.ts";
import { inWave } from "./waves.ts";
import { addWriteBack } from "./write-back.ts";

/** One room of the C library's for all threads: less memory for the same work (docs/adr/0015-copies-and-proof.md). */
export const OPERATOR_MEMORY = { MALLOC_ARENA_MAX: "1" } as const;

const clusters = join(import.meta.dirname, "..", "clusters");

/**
 * The manifests of one environment, by file name. What is under `models/` is of our own kinds: it is applied when the
 * definitions of those are there. What is under `hooks/` is run by Argo CD, after a sync.
 */
export function renderCluster(values: Values): Map<string, string> {
  const app = new App();
  const files = new Map<string, string>();
  const { namespace, platformNamespace, logLevel, marketData } = values;

  const chart = (name: string, build: (chart: Chart) => void, inside = namespace) => {
    const scope = new Chart(app, name.replace("/", "-"), {
      namespace: inside,
      disableResourceNameHashes: true,
    });
    build(scope);
    const objects = (scope.toJson() as Rendered[]).map(withoutNamespace);
    if (objects.length > 0) files.set(`${name}.yaml`, Yaml.stringify(...objects));
  };
  const common = (scope: Chart) => ({
    logLevel,
    endpoints: ConfigMap.fromConfigMapName(scope, "endpoints", ENDPOINTS),
    wave: "services" as const,
  });
  const ownsPlatform = values.kafka.provide !== "cluster";

  chart("namespaces", (scope) =>
    addNamespaces(scope, ownsPlatform ? [namespace, platformNamespace] : [namespace]),
  );
  chart("limits", (scope) => {
    addEndpoints(scope, values);
    addQuota(scope, values);
  });
  chart("network", (scope) => addNetworkPolicies(scope, values, namespace));
  if (ownsPlatform) {
    chart(
      "platform-network",
      (scope) => addNetworkPolicies(scope, values, platformNamespace),
      platformNamespace,
    );
  }
  chart("kafka", (scope) => addKafka(scope, values), platformNamespace);
  chart("redis", (scope) => addRedis(scope, values), platformNamespace);
  chart("prometheus", (scope) => addPrometheus(scope, values), platformNamespace);
  chart("market-data", (scope) =>
    addService(scope, {
      ...common(scope),
      name: "market-data",
      image: imageOf(values, "market-data"),
      resources: marketData.resources,
      // One source: two would send every message twice.
      replicas: 1,
      single: true,
      env: {
        TOPIC: marketData.topic,
        PARTITIONS: String(marketData.partitions),
        REPLICAS: String(values.operator.topicReplicas),
        RATE: String(marketData.ratePerSecond),
        SEED: String(marketData.seed),
      },
    }),
  );
  chart("features", (scope) =>
    addService(scope, {
      ...common(scope),
      name: "features",
      image: imageOf(values, "features"),
      resources: values.features.resources,
      replicas: values.features.replicas,
      env: { TOPICS: marketData.topic },
    }),
  );
  chart("operator", (scope) => {
    const { replicas, topicReplicas, notificationsSecret: secret, resources } = values.operator;
    const at = "/etc/baton/notifications";
    addService(scope, {
      ...common(scope),
      name: "operator",
      image: imageOf(values, "operator"),
      resources,
      replicas,
      usesApi: true,
      env: {
        TOPIC_REPLICAS: String(topicReplicas),
        ...OPERATOR_MEMORY,
        ...(secret === undefined ? {} : { NOTIFICATIONS_FILE: `${at}/notifications.yaml` }),
      },
      ...(secret === undefined ? {} : { secretFiles: { secret, at } }),
      wave: "operator",
    });
    addOperatorRights(scope, namespace);
    addOperatorFence(scope, namespace);
  });
  chart("git-write-back", (scope) => addWriteBack(scope, values, common(scope).endpoints));
  chart("cli", addCliAccount);
  chart("hooks/smoke-test", (scope) => addSmokeTest(scope, values));
  chart("models/analysis-templates", (scope) => addAnalysisTemplates(scope, values));
  chart("models/instruments", addInstruments);
  chart(`models/${values.signalModel.deployment}`, (scope) => addSignalModel(scope, values));
  files.set("crds.yaml", Yaml.stringify(...KINDS.map((kind) => protectedDefinition(definition(kind)))));
  return files;
}

interface Rendered {
  readonly kind: string;
  readonly metadata: { readonly namespace?: string };
}

/** A chart gives its namespace to all that is in it, also to what belongs to none. */
function withoutNamespace(object: Rendered): object {
  if (!CLUSTER_SCOPED.test(object.kind)) return object;
  const { namespace: _, ...metadata } = object.metadata;
  return { ...object, metadata };
}

/** With a definition would go every object of its kind, and with those every model. */
function protectedDefinition(crd: object): object {
  const { metadata } = crd as { readonly metadata: { readonly annotations?: Record<string, string> } };
  const annotations = {
    ...metadata.annotations,
    ...inWave("definitions"),
    "argocd.argoproj.io/sync-options": "Prune=false,Delete=false,ServerSideApply=true",
  };
  return { ...crd, metadata: { ...metadata, annotations } };
}

/** The environments that there are, by name. Throws when a `cluster.yaml` is wrong. */
export function environments(): Map<string, Values> {
  const found = new Map<string, Values>();
  for (const { name } of readdirSync(clusters, { withFileTypes: true })) {
    if (!existsSync(join(clusters, name, "cluster.yaml"))) continue;
    found.set(name, readYaml(valuesSchema, `clusters/${name}/cluster.yaml`));
  }
  return found;
}

/** Every environment's manifests, and Argo CD's, by path in the repository. */
export function renderManifests(): Map<string, string> {
  const files = new Map<string, string>();
  const held = new Map<string, Held>();
  for (const [name, values] of environments()) {
    const rendered = renderCluster(values);
    for (const [file, content] of rendered) files.set(`clusters/${name}/manifests/${file}`, content);
    held.set(name, holds(rendered));
  }
  const { settings, environments: synced } = readArgo();
  const argo = renderArgo(settings, synced, (name) => {
    const found = held.get(name);
    if (found === undefined)
      throw new Error(`argocd/environments/${name}.yaml: there is no clusters/${name}`);
    return found;
  });
  for (const [path, content] of argo) files.set(path, content);
  return files;
}

/** Which kinds an environment's manifests have, and in which namespaces: the models' first. */
export function holds(rendered: ReadonlyMap<string, string>): Held {
  const objects = [...rendered].flatMap(([file, text]) =>
    parseAllDocuments(text).map((entry) => ({
      part: file.startsWith("models/") ? "models" : "platform",
      ...(entry.toJS() as Manifest),
    })),
  );
  const kinds = (part: string): ObjectKind[] => {
    const all = objects.filter((object) => object.part === part);
    const names = all.map(
      ({ apiVersion, kind }) => `${apiVersion.includes("/") ? apiVersion.split("/")[0] : ""}/${kind}`,
    );
    return [...new Set(names)].toSorted().map((name) => {
      const [group = "", kind = ""] = name.split("/");
      return { group, kind };
    });
  };
  const namespaces = objects
    .toSorted((a, b) => (a.part < b.part ? -1 : 1))
    .flatMap(({ metadata }) => metadata.namespace ?? []);
  return { platform: kinds("platform"), models: kinds("models"), namespaces: [...new Set(namespaces)] };
}

/** Files among the manifests that are not among what is rendered any more: Argo CD would go on applying them. */
export function leftOver(rendered: ReadonlyMap<string, string>): string[] {
  return [...environments().keys()].flatMap((name) => {
    const folder = join(clusters, name, "manifests");
    const files = existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: "utf8" }) : [];
    return files
      .filter((file) => file.endsWith(".yaml"))
      .map((file) => `clusters/${name}/manifests/${file}`)
      .filter((path) => !rendered.has(path));
  });
}
