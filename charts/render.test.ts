import { describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { environments, renderCluster, renderManifests } from "./render.ts";
import { type Values, valuesSchema } from "./values.ts";

interface Rendered {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec: {
    readonly replicas?: number;
    readonly strategy?: { readonly type: string };
    readonly egress?: readonly {
      readonly to: readonly object[];
      readonly ports: readonly { readonly port: number }[];
    }[];
    readonly ingress?: readonly object[];
  };
}

const files = renderManifests();
const objectsOf = (environment: string) =>
  [...files]
    .filter(([path]) => path.startsWith(`clusters/${environment}/`))
    .flatMap(([, text]) => parseAllDocuments(text).map((entry) => entry.toJS() as Rendered));
const names = (environment: string, kind: string) =>
  objectsOf(environment)
    .filter((object) => object.kind === kind)
    .map(({ metadata }) => metadata.name)
    .toSorted();

describe("rendered manifests", () => {
  it("are the same every time", () => {
    expect([...renderManifests()]).toEqual([...files]);
  });

  it("hold the services, and what a cluster does not bring itself", () => {
    expect(names("local", "Deployment")).toEqual(["features", "market-data", "operator"]);
    expect(names("local", "StatefulSet")).toEqual([]);
    expect(names("kind", "StatefulSet")).toEqual(["alertmanager", "kafka", "prometheus", "redis"]);
    expect(names("prod", "StatefulSet")).toEqual(["alertmanager", "prometheus"]);
    expect(names("prod", "Kafka")).toEqual(["kafka"]);
  });

  it("say where everything is, unless the cluster does", () => {
    expect(names("local", "ConfigMap")).toEqual([]);
    expect(files.get("clusters/kind/manifests/limits.yaml")).toContain(
      "KAFKA_BROKERS: kafka-0.kafka.baton-platform.svc:9092",
    );
    expect(files.get("clusters/prod/manifests/limits.yaml")).toContain(
      "REDIS_URL: redis://redis.prod.internal:6379",
    );
  });

  it("never run two sources of market data, not even during a roll-out", () => {
    const source = objectsOf("prod").find(
      ({ kind, metadata }) => kind === "Deployment" && metadata.name === "market-data",
    );
    expect(source?.spec).toMatchObject({ replicas: 1, strategy: { type: "Recreate" } });
  });

  it("allow each flow where it leaves and where it arrives, and none that is not declared", () => {
    const policy = (name: string) =>
      objectsOf("kind").find(({ kind, metadata }) => kind === "NetworkPolicy" && metadata.name === name)
        ?.spec;
    const ports = (name: string) =>
      policy(name)?.egress?.flatMap((rule) => rule.ports.map(({ port }) => port));
    expect(ports("market-data")).toEqual([9092]);
    expect(ports("features")).toEqual([9092, 6379]);
    expect(ports("models")).toEqual([9092, 6379]);
    expect(ports("operator")).toEqual([9092, 443, 6443, 9090]);
    expect(policy("redis")?.egress).toBeUndefined();
    expect(policy("redis")?.ingress).toHaveLength(3);
    expect(policy("deny-all")).toEqual({ podSelector: {}, policyTypes: ["Ingress", "Egress"] });
  });
});

describe("the operator's notifications", () => {
  it("are read from a Secret's file, where there is one", () => {
    const dev = environments().get("dev") as Values;
    const rendered = (notificationsSecret?: string) => {
      const operator = {
        ...dev.operator,
        ...(notificationsSecret === undefined ? {} : { notificationsSecret }),
      };
      return renderCluster({ ...dev, operator }).get("operator.yaml") ?? "";
    };
    const [deployment] = parseAllDocuments(rendered("baton-notifications")).flatMap((entry) => {
      const object = entry.toJS();
      return object.kind === "Deployment" ? [object.spec.template.spec] : [];
    });
    expect(deployment.volumes).toEqual([
      { name: "files", secret: { secretName: "baton-notifications", defaultMode: 0o440 } },
    ]);
    const [container] = deployment.containers;
    expect(container.volumeMounts).toEqual([
      { name: "files", mountPath: "/etc/baton/notifications", readOnly: true },
    ]);
    expect(container.env).toContainEqual({
      name: "NOTIFICATIONS_FILE",
      value: "/etc/baton/notifications/notifications.yaml",
    });
    expect(rendered()).not.toContain("NOTIFICATIONS_FILE");
  });
});

describe("cluster.yaml", () => {
  it("is refused with the path of what is wrong", () => {
    const result = valuesSchema.safeParse({
      namespace: "x",
      marketdata: {},
      images: { from: "baton", tag: "x" },
      signalModel: { model: { digest: "latest" } },
    });
    const paths = result.error?.issues.map((issue) => issue.path.join("."));
    expect(paths).toEqual(expect.arrayContaining(["kafka", "signalModel.model.digest"]));
    expect(result.error?.issues.some((issue) => issue.code === "unrecognized_keys")).toBe(true);
  });

  it("names the image that has no digest, and a limit below what is requested", () => {
    const dev = environments().get("dev") as Values;
    const { redis: _, ...digests } = dev.images.digests ?? {};
    const memoryMebibytes = { request: 512, limit: 256 };
    const result = valuesSchema.safeParse({ ...dev, images: { from: "x", digests } });
    expect(result.error?.issues).toMatchObject([
      { path: ["images", "digests", "redis"], message: "is missing" },
    ]);
    const operator = { ...dev.operator, resources: { ...dev.operator.resources, memoryMebibytes } };
    expect(valuesSchema.safeParse({ ...dev, operator }).error?.issues).toMatchObject([
      { path: ["operator", "resources", "memoryMebibytes"], message: "more is requested than the limit is" },
    ]);
  });

  it("is for a cluster that brings Kafka, Redis and Prometheus, or none of them", () => {
    const local = environments().get("local") as Values;
    const result = valuesSchema.safeParse({ ...local, redis: { provide: "managed", url: "redis://x:1" } });
    expect(result.error?.issues[0]?.message).toContain("all of Kafka, Redis and Prometheus, or none");
  });
});
