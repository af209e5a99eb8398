import { ApiObject, type Chart } from "cdk8s";
import { labelsOf, NAME } from "./labels.ts";
import type { Values } from "./values.ts";
import { inWave } from "./waves.ts";

// Who may talk to whom. Everything else is denied, in both directions; each flow is allowed where it leaves and where it
// arrives.

interface Party {
  readonly name: string;
  readonly namespace: string;
  readonly selector: object;
}

interface Flow {
  readonly from: Party;
  /** Addresses outside the cluster, the API server's among them, have no labels. */
  readonly to: Party | "outside";
  readonly ports: readonly number[];
}

const API_SERVER = [443, 6443];
const HTTPS = [443];
const DNS = 53;
const METRICS = 8080;

const UNSEEN = { "kube-score/ignore": "networkpolicy-targets-pod" };

/** Every flow that an environment has. */
export function flowsOf(values: Values): Flow[] {
  const { namespace, platformNamespace, kafka, redis, prometheus, signalModel } = values;
  const named = (name: string, inside: string): Party => ({
    name,
    namespace: inside,
    selector: { matchLabels: { [NAME]: name } },
  });
  const service = (name: string) => named(name, namespace);
  const server = (name: string) => named(name, platformNamespace);
  const models: Party = {
    name: "models",
    namespace,
    selector: { matchExpressions: [{ key: "baton.dev/deployment", operator: "Exists" }] },
  };
  const [marketData, features, operator] = ["market-data", "features", "operator"].map(service) as [
    Party,
    Party,
    Party,
  ];
  const brokers: Party =
    kafka.provide === "strimzi"
      ? {
          name: "kafka",
          namespace: platformNamespace,
          selector: { matchLabels: { "strimzi.io/cluster": "kafka" } },
        }
      : server("kafka");
  const flows: Flow[] = [
    ...[marketData, features, operator, models].map((from) => ({ from, to: brokers, ports: [9092] })),
    { from: operator, to: "outside", ports: API_SERVER },
  ];
  // Whoever runs the command line in the cluster, for the kill switch or the history.
  const cli = service("cli");
  flows.push({ from: cli, to: brokers, ports: [9092] });
  const ofRedis = [features, models, cli];
  if (redis.provide === "single") {
    for (const from of ofRedis) flows.push({ from, to: server("redis"), ports: [6379] });
  } else if (redis.provide === "managed") {
    const port = Number(new URL(redis.url).port || 6379);
    for (const from of ofRedis) flows.push({ from, to: "outside", ports: [port] });
  }
  if (kafka.provide === "strimzi") {
    flows.push({ from: brokers, to: brokers, ports: [9090, 9091, 9092] });
    flows.push({ from: brokers, to: "outside", ports: API_SERVER });
  }
  const writer = service("git-write-back");
  if (values.writeBack !== undefined) {
    flows.push({ from: writer, to: brokers, ports: [9092] });
    // To Git by HTTPS or ssh.
    flows.push({ from: writer, to: "outside", ports: [...API_SERVER, 22] });
  }
  if (prometheus.provide === "single") {
    const watcher = server("prometheus");
    const alerts = server("alertmanager");
    for (const from of [operator, cli]) flows.push({ from, to: watcher, ports: [9090] });
    const watched = [
      marketData,
      features,
      operator,
      models,
      ...(values.writeBack === undefined ? [] : [writer]),
    ];
    for (const to of watched) flows.push({ from: watcher, to, ports: [METRICS] });
    flows.push({ from: watcher, to: alerts, ports: [9093] });
    flows.push({ from: watcher, to: "outside", ports: API_SERVER });
    if (prometheus.alertmanager.replicas > 1) flows.push({ from: alerts, to: alerts, ports: [9094] });
    // Whoever is told of an alert.
    flows.push({ from: alerts, to: "outside", ports: HTTPS });
  }
  if (!signalModel.model.uri.startsWith("file:")) flows.push({ from: models, to: "outside", ports: HTTPS });
  return flows;
}

/** The policies of one namespace. */
export function addNetworkPolicies(scope: Chart, values: Values, namespace: string): void {
  const add = (name: string, spec: object) =>
    new ApiObject(scope, name, {
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: {
        name,
        namespace,
        labels: labelsOf("network"),
        // The pods of models and of Strimzi's brokers are made by operators: they are in no manifest.
        annotations: { ...inWave("limits"), ...(["models", "kafka"].includes(name) ? UNSEEN : {}) },
      },
      spec,
    });
  add("deny-all", { podSelector: {}, policyTypes: ["Ingress", "Egress"] });
  add("names", {
    podSelector: {},
    policyTypes: ["Egress"],
    egress: [
      {
        to: [
          {
            namespaceSelector: named("kube-system"),
            podSelector: { matchLabels: { "k8s-app": "kube-dns" } },
          },
        ],
        ports: ["UDP", "TCP"].map((protocol) => ({ protocol, port: DNS })),
      },
    ],
  });
  const flows = flowsOf(values);
  const parties = new Map(
    flows
      .flatMap(({ from, to }) => (to === "outside" ? [from] : [from, to]))
      .filter((party) => party.namespace === namespace)
      .map((party) => [party.name, party]),
  );
  for (const [name, party] of [...parties].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const leaving = flows.filter(({ from }) => from.name === name);
    const arriving = flows.filter(({ to }) => to !== "outside" && to.name === name);
    add(name, {
      podSelector: party.selector,
      policyTypes: ["Ingress", "Egress"],
      ...(arriving.length === 0
        ? {}
        : { ingress: arriving.map(({ from, ports }) => ({ from: [peer(from)], ports: tcp(ports) })) }),
      ...(leaving.length === 0
        ? {}
        : { egress: leaving.map(({ to, ports }) => ({ to: [peer(to)], ports: tcp(ports) })) }),
    });
  }
}

function peer(party: Party | "outside"): object {
  if (party === "outside") return { ipBlock: { cidr: "0.0.0.0/0" } };
  return { namespaceSelector: named(party.namespace), podSelector: party.selector };
}

function named(namespace: string): object {
  return { matchLabels: { "kubernetes.io/metadata.name": namespace } };
}

function tcp(ports: readonly number[]): object[] {
  return ports.map((port) => ({ protocol: "TCP", port }));
}
