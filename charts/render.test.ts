import { describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { renderManifests } from "./render.ts";
import { valuesSchema } from "./values.ts";

interface Rendered {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly automountServiceAccountToken?: boolean;
  readonly rules?: readonly {
    readonly apiGroups: readonly string[];
    readonly resources: readonly string[];
    readonly verbs: readonly string[];
  }[];
  readonly spec: {
    readonly replicas: number;
    readonly strategy: { readonly type: string };
    readonly selector: { readonly matchLabels: Record<string, string> };
    readonly template: {
      readonly metadata: {
        readonly labels: Record<string, string>;
        readonly annotations: Record<string, string>;
      };
      readonly spec: {
        readonly automountServiceAccountToken: boolean;
        readonly serviceAccountName: string;
        readonly containers: readonly Record<string, Record<string, Record<string, unknown>>>[];
      };
    };
  };
}

const files = renderManifests();
const objects = [...files.values()].flatMap((text) =>
  parseAllDocuments(text).map((entry) => entry.toJS() as Rendered),
);
const deployments = objects.filter((object) => object.kind === "Deployment");

describe("rendered manifests", () => {
  it("are the same every time", () => {
    expect([...renderManifests()]).toEqual([...files]);
  });

  it("hold the services", () => {
    expect(deployments.map((object) => object.metadata.name).toSorted()).toEqual([
      "features",
      "market-data",
      "operator",
    ]);
  });

  it("are all in a namespace, but for what has none", () => {
    const whole = /^(CustomResourceDefinition|Cluster|Validating)/;
    for (const object of objects.filter(({ kind }) => !whole.test(kind)))
      expect([object.metadata.name, object.metadata.namespace]).toEqual([object.metadata.name, "baton"]);
  });

  it.each(deployments.map((object) => [object.metadata.name, object] as const))(
    "%s runs without rights that it does not need, with limits and probes",
    (name, { spec }) => {
      const pod = spec.template.spec;
      expect(pod.automountServiceAccountToken).toBe(name === "operator");
      expect(pod.serviceAccountName).toBe(name);
      for (const container of pod.containers) {
        expect(container["securityContext"]).toMatchObject({
          runAsNonRoot: true,
          readOnlyRootFilesystem: true,
          allowPrivilegeEscalation: false,
          privileged: false,
          capabilities: { drop: ["ALL"] },
          seccompProfile: { type: "RuntimeDefault" },
        });
        for (const probe of ["startupProbe", "readinessProbe", "livenessProbe"])
          expect(container[probe]).toBeDefined();
        for (const kind of ["limits", "requests"]) {
          expect(Object.keys(container["resources"]?.[kind] ?? {}).toSorted()).toEqual(["cpu", "memory"]);
        }
      }
      expect(spec.selector.matchLabels).toEqual({ "app.kubernetes.io/name": name });
      expect(spec.template.metadata.labels).toMatchObject(spec.selector.matchLabels);
      expect(spec.template.metadata.annotations["prometheus.io/scrape"]).toBe("true");
    },
  );

  it("give rights by name only, and none on Secrets", () => {
    const rules = objects.flatMap(({ kind, rules = [] }) => (kind.endsWith("Role") ? rules : []));
    expect(rules.length).toBeGreaterThan(5);
    for (const { apiGroups, resources, verbs } of rules) {
      const words = [...apiGroups, ...resources, ...verbs];
      expect(words.filter((word) => word.includes("*") || word.startsWith("secrets"))).toEqual([]);
    }
  });

  it("never run two sources of market data, not even during a roll-out", () => {
    const source = deployments.find((object) => object.metadata.name === "market-data");
    expect(source?.spec).toMatchObject({ replicas: 1, strategy: { type: "Recreate" } });
  });
});

describe("cluster.yaml", () => {
  it("is refused with the path of what is wrong", () => {
    const result = valuesSchema.safeParse({
      namespace: "x",
      marketdata: {},
      signalModel: { model: { digest: "latest" } },
    });
    const paths = result.error?.issues.map((issue) => issue.path.join("."));
    expect(paths).toEqual(expect.arrayContaining(["images", "signalModel.model.digest"]));
    expect(result.error?.issues.some((issue) => issue.code === "unrecognized_keys")).toBe(true);
  });
});
