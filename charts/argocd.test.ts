import { describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { readArgo, renderArgo } from "./argocd.ts";
import { environments, holds, renderCluster } from "./render.ts";

interface Project {
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly sourceRepos: readonly string[];
    readonly destinations: readonly { readonly server: string; readonly namespace: string }[];
    readonly clusterResourceWhitelist: readonly { readonly kind: string }[];
    readonly namespaceResourceWhitelist: readonly { readonly group: string; readonly kind: string }[];
    readonly syncWindows?: readonly object[];
  };
}

const { settings, environments: synced } = readArgo();
const held = (name: string) => {
  const values = environments().get(name);
  if (values === undefined) throw new Error(`no ${name}`);
  return holds(renderCluster(values));
};
const files = renderArgo(settings, synced, held);
const projects = parseAllDocuments(files.get("argocd/manifests/projects.yaml") ?? "").map(
  (entry) => entry.toJS() as Project,
);
const project = (name: string) => projects.find(({ metadata }) => metadata.name === name)?.spec;

describe("Argo CD", () => {
  it("may write what an environment's manifests hold, where they are, and nothing else", () => {
    const platform = project("baton-prod-platform");
    expect(platform?.sourceRepos).toEqual([settings.repoURL]);
    expect(platform?.destinations.map(({ namespace }) => namespace).toSorted()).toEqual([
      "baton",
      "baton-platform",
    ]);
    expect(platform?.clusterResourceWhitelist.map(({ kind }) => kind)).toContain("CustomResourceDefinition");
    expect(platform?.namespaceResourceWhitelist.map(({ kind }) => kind)).not.toContain("Secret");
    expect(JSON.stringify(projects)).not.toContain('"*"}');
  });

  it("may write models, and nothing else, for whoever releases them", () => {
    const models = project("baton-prod-models");
    expect(models?.clusterResourceWhitelist).toEqual([]);
    expect(models?.namespaceResourceWhitelist).toEqual(
      ["AnalysisTemplate", "InstrumentSet", "ModelDeployment"].map((kind) => ({ group: "baton.dev", kind })),
    );
    expect(models?.destinations.map(({ namespace }) => namespace)).toEqual(["baton"]);
  });

  it("syncs prod by itself in its windows only", () => {
    expect(project("baton-prod-models")?.syncWindows).toEqual([
      {
        ...{ kind: "deny", schedule: "0 20 * * 5", duration: "58h", timeZone: "UTC", manualSync: true },
        applications: ["*"],
      },
    ]);
    expect(project("baton-dev-models")?.syncWindows).toBeUndefined();
  });

  it("is refused an environment that is elsewhere than its manifests", () => {
    const [dev] = synced;
    if (dev === undefined) throw new Error("no environment");
    expect(() => renderArgo(settings, [{ ...dev, namespace: "kube-system" }], held)).toThrow(
      "namespace is not baton",
    );
  });
});
