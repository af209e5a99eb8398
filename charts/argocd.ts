import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import * as z from "zod";
import { PART_OF } from "./labels.ts";
import { CLUSTER_SCOPED } from "./policies.ts";
import { readYaml } from "./read.ts";

// What Argo CD is given: projects with the least rights, an ApplicationSet over the environments, and what it has to know of
// a ModelDeployment. Inputs are argocd/argocd.yaml, argocd/environments/ and argocd/lua/.

const folder = join(import.meta.dirname, "..", "argocd");

const settingsSchema = z.strictObject({
  repoURL: z.string().min(1),
  revision: z.string().min(1),
  namespace: z.string().min(1),
});

const windowSchema = z.strictObject({
  kind: z.enum(["allow", "deny"]),
  schedule: z.string().regex(/^\S+( \S+){4}$/, "not five fields of cron"),
  duration: z.string().regex(/^\d+[mh]$/, "not a number of minutes or hours, such as 30m or 8h"),
  timeZone: z.string().default("UTC"),
  manualSync: z.boolean().default(false),
});

const environmentSchema = z.strictObject({
  name: z.string().regex(/^[a-z0-9-]{1,40}$/),
  server: z.url(),
  namespace: z.string().min(1),
  windows: z.array(windowSchema).default([]),
});

export type ArgoSettings = z.infer<typeof settingsSchema>;
export type ArgoEnvironment = z.infer<typeof environmentSchema>;

/** What an environment's manifests hold: which kinds Argo CD may write there. */
export interface Held {
  readonly platform: readonly ObjectKind[];
  readonly models: readonly ObjectKind[];
  readonly namespaces: readonly string[];
}

export interface ObjectKind {
  readonly group: string;
  readonly kind: string;
}

const API = "argoproj.io/v1alpha1";
const labels = { [PART_OF]: "baton" };
/** Of what it could not sync, as when the definitions of our kinds are not there yet, it tries again. */
const RETRY = { limit: 20, backoff: { duration: "2s", factor: 2, maxDuration: "1m" } };

export function readArgo(): { readonly settings: ArgoSettings; readonly environments: ArgoEnvironment[] } {
  const files = readdirSync(join(folder, "environments")).filter((file) => file.endsWith(".yaml"));
  const environments = files.map((file) => {
    const environment = readYaml(environmentSchema, `argocd/environments/${file}`);
    if (`${environment.name}.yaml` !== file)
      throw new Error(`argocd/environments/${file}: name is not ${file}`);
    return environment;
  });
  return { settings: readYaml(settingsSchema, "argocd/argocd.yaml"), environments };
}

/** Argo CD's own manifests, by path in the repository. */
export function renderArgo(
  settings: ArgoSettings,
  environments: readonly ArgoEnvironment[],
  heldBy: (environment: string) => Held,
): Map<string, string> {
  const projects = environments.flatMap((environment) =>
    projectsOf(settings, environment, heldBy(environment.name)),
  );
  return new Map([
    ["argocd/bootstrap/baton.yaml", documents(rootProject(settings), root(settings))],
    ["argocd/manifests/projects.yaml", documents(...projects)],
    ["argocd/manifests/environments.yaml", documents(applicationSet(settings))],
    ["argocd/install/argocd-cm.yaml", documents(customizations(settings))],
    ["argocd/install/argocd-notifications-cm.yaml", documents(notifications(settings))],
  ]);
}

function documents(...objects: readonly object[]): string {
  return objects.map((object) => stringify(object, { lineWidth: 0 })).join("---\n");
}

/** The one that makes the others: nothing but Argo CD's own kinds, in its own namespace. */
function rootProject({ repoURL, namespace }: ArgoSettings): object {
  return {
    apiVersion: API,
    kind: "AppProject",
    metadata: { name: "baton", namespace, labels },
    spec: {
      description: "Baton's projects and applications themselves",
      sourceRepos: [repoURL],
      destinations: [{ server: "https://kubernetes.default.svc", namespace }],
      clusterResourceWhitelist: [],
      namespaceResourceWhitelist: [
        { group: "argoproj.io", kind: "AppProject" },
        { group: "argoproj.io", kind: "ApplicationSet" },
      ],
    },
  };
}

function root({ repoURL, revision, namespace }: ArgoSettings): object {
  return {
    apiVersion: API,
    kind: "Application",
    metadata: { name: "baton", namespace, labels, finalizers: ["resources-finalizer.argocd.argoproj.io"] },
    spec: {
      project: "baton",
      source: { repoURL, targetRevision: revision, path: "argocd/manifests" },
      destination: { server: "https://kubernetes.default.svc", namespace },
      syncPolicy: { automated: { prune: true, selfHeal: true }, retry: RETRY },
    },
  };
}

/** Two for each environment: what the team releases can touch models only. */
function projectsOf(
  { repoURL, namespace }: ArgoSettings,
  { name, server, namespace: inside, windows }: ArgoEnvironment,
  held: Held,
): object[] {
  const kinds = (all: readonly ObjectKind[], cluster: boolean) =>
    all.filter(({ kind }) => CLUSTER_SCOPED.test(kind) === cluster);
  const project = (part: "platform" | "models", description: string, namespaces: readonly string[]) => ({
    apiVersion: API,
    kind: "AppProject",
    metadata: { name: `baton-${name}-${part}`, namespace, labels, annotations: wave(0) },
    spec: {
      description,
      sourceRepos: [repoURL],
      destinations: namespaces.map((allowed) => ({ server, namespace: allowed })),
      clusterResourceWhitelist: kinds(held[part], true),
      namespaceResourceWhitelist: kinds(held[part], false),
      orphanedResources: { warn: false },
      ...(windows.length === 0
        ? {}
        : { syncWindows: windows.map((window) => ({ ...window, applications: ["*"] })) }),
    },
  });
  const [namespaceOfModels = ""] = held.namespaces;
  if (inside !== namespaceOfModels) {
    throw new Error(
      `argocd/environments/${name}.yaml: namespace is not ${namespaceOfModels}, as in clusters/${name}`,
    );
  }
  return [
    project("platform", `Baton's services in ${name}`, held.namespaces),
    project("models", `What the team releases in ${name}`, [namespaceOfModels]),
  ];
}

function applicationSet({ repoURL, revision, namespace }: ArgoSettings): object {
  const git = { repoURL, revision, files: [{ path: "argocd/environments/*.yaml" }] };
  const parts = [
    { part: "platform", folder: "manifests", without: "models/*" },
    { part: "models", folder: "manifests/models", without: "" },
  ];
  return {
    apiVersion: API,
    kind: "ApplicationSet",
    metadata: { name: "baton-environments", namespace, labels, annotations: wave(1) },
    spec: {
      goTemplate: true,
      goTemplateOptions: ["missingkey=error"],
      generators: [{ matrix: { generators: [{ git }, { list: { elements: parts } }] } }],
      // What an environment runs does not go because a file of Argo CD's did.
      syncPolicy: { preserveResourcesOnDeletion: true },
      template: {
        metadata: {
          name: "baton-{{.name}}-{{.part}}",
          labels: { ...labels, "baton.dev/environment": "{{.name}}" },
          annotations: {
            "argocd.argoproj.io/compare-options": "ServerSideDiff=true",
            ...subscriptions(),
          },
        },
        spec: {
          project: "baton-{{.name}}-{{.part}}",
          source: {
            repoURL,
            targetRevision: revision,
            path: "clusters/{{.name}}/{{.folder}}",
            directory: { recurse: true, exclude: "{{.without}}" },
          },
          destination: { server: "{{.server}}", namespace: "{{.namespace}}" },
          // Who else writes: an autoscaler, through the scale subresource.
          ignoreDifferences: [
            {
              group: "baton.dev",
              kind: "ModelDeployment",
              managedFieldsManagers: ["kube-controller-manager"],
            },
            { group: "apps", kind: "Deployment", managedFieldsManagers: ["kube-controller-manager"] },
          ],
          syncPolicy: {
            automated: { prune: true, selfHeal: true },
            syncOptions: ["ServerSideApply=true", "RespectIgnoreDifferences=true"],
            retry: RETRY,
          },
        },
      },
    },
  };
}

/** What Argo CD tells of, under the names of its own catalogue: when, and in which words. */
const NOTICES = [
  {
    trigger: "on-deployed",
    template: "baton-deployed",
    when: "app.status.operationState?.phase == 'Succeeded' and app.status.health.status == 'Healthy' and app.status.sync.status == 'Synced'",
    says: "{{.app.metadata.name}} runs what is in Git ({{.app.status.sync.revision}}).",
  },
  {
    trigger: "on-health-degraded",
    template: "baton-degraded",
    when: "app.status.health.status == 'Degraded'",
    says: "{{.app.metadata.name}} is degraded: a release was taken back or does not go on. Its ModelDeployment says why, and so does `baton get`.",
  },
  {
    trigger: "on-sync-failed",
    template: "baton-sync-failed",
    when: "app.status.operationState?.phase in ['Error', 'Failed']",
    says: "{{.app.metadata.name}} could not be synced: {{.app.status.operationState.message}}",
  },
];

/** Who is told, and through which service, is set in argocd-notifications-cm. */
function subscriptions(): Record<string, string> {
  return Object.fromEntries(
    NOTICES.map(({ trigger }) => [`notifications.argoproj.io/subscribe.${trigger}.slack`, "baton-releases"]),
  );
}

/** For `kubectl apply --server-side`: services, and what else is set there, stay. */
function notifications({ namespace }: ArgoSettings): object {
  // Once for each commit.
  const oncePer = "app.status.sync.revision";
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "argocd-notifications-cm", namespace, labels: { [PART_OF]: "argocd" } },
    data: Object.fromEntries(
      NOTICES.flatMap(({ trigger, template, when, says }) => [
        [`trigger.${trigger}`, stringify([{ when, oncePer, send: [template] }], { lineWidth: 0 })],
        [`template.${template}`, stringify({ message: says }, { lineWidth: 0 })],
      ]),
    ),
  };
}

function wave(number: number): Record<string, string> {
  return { "argocd.argoproj.io/sync-wave": String(number) };
}

const VERBS = ["promote", "promote-full", "pause", "resume", "abort", "retry", "undo"];

/**
 * Health and actions of a ModelDeployment, and the health of definitions, for `kubectl apply --server-side`: Argo CD's other
 * settings stay.
 */
function customizations({ namespace }: ArgoSettings): object {
  const lua = (name: string) => readFileSync(join(folder, "lua", `${name}.lua`), "utf8");
  const definitions = VERBS.map((verb) => ({
    name: verb,
    "action.lua": `local verb = "${verb}"\n${lua("action")}`,
  }));
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "argocd-cm", namespace, labels: { [PART_OF]: "argocd" } },
    data: {
      "resource.customizations.health.apiextensions.k8s.io_CustomResourceDefinition":
        lua("definition-health"),
      "resource.customizations.health.baton.dev_ModelDeployment": lua("health"),
      "resource.customizations.actions.baton.dev_ModelDeployment": stringify(
        { "discovery.lua": lua("discovery"), definitions },
        { lineWidth: 0 },
      ),
    },
  };
}
