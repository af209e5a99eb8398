import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { KubeConfig, type KubernetesObject, KubernetesObjectApi } from "@kubernetes/client-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseAllDocuments, stringify } from "yaml";
import { type ArgoEnvironment, renderArgo } from "#charts/argocd.ts";
import { environments, holds, renderCluster } from "#charts/render.ts";
import type { Values } from "#charts/values.ts";
import { downCluster, upCluster } from "#clusters/local/lifecycle.ts";
import { KubeApi, type KubeObject, type Resource } from "#operators/controller-kit/api.ts";
import { resourceOf } from "#operators/model-deployment/api/crd.ts";
import type { ModelDeploymentStatus } from "#operators/model-deployment/api/status.ts";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { verifyHistory } from "#runtime/handover/history/read.ts";
import type { Verdict } from "#runtime/handover/history/verify.ts";
import { ArgoCd, NAMESPACE } from "#tests/support/argocd.ts";
import { type TestCluster, wipeCluster } from "#tests/support/fresh-cluster.ts";
import { Subject } from "#tests/support/processes.ts";
import { Repository } from "#tests/support/repository.ts";
import { exampleModel } from "#tests/support/signal-model.ts";
import { waitFor } from "#tests/support/wait.ts";

// From a push to a release, with the real Argo CD, a bare repository, and the platform on a local cluster. The tests tell one
// story, each from where the one before has left things.

const CLUSTER = "gitops";
const ROOT = join(import.meta.dirname, "../..");
const APPLICATIONS: Resource = {
  group: "argoproj.io",
  version: "v1alpha1",
  plural: "applications",
  kind: "Application",
};
const PROJECTS: Resource = {
  group: "argoproj.io",
  version: "v1alpha1",
  plural: "appprojects",
  kind: "AppProject",
};
type Project = KubeObject & { readonly spec: { readonly syncWindows?: readonly object[] } };
const DEPLOYMENTS: Resource = { group: "apps", version: "v1", plural: "deployments", kind: "Deployment" };
const MODELS = resourceOf("ModelDeployment");
const PLATFORM = "baton-local-platform";
const RELEASED = "baton-local-models";
const APPLICATIONS_HERE = [PLATFORM, RELEASED];
const NAME = "momentum";

interface Application extends KubeObject {
  /** A sync that is asked for or under way. */
  readonly operation?: object;
  readonly status?: {
    readonly sync?: { readonly status?: string; readonly revision?: string };
    readonly health?: { readonly status?: string };
    readonly operationState?: {
      readonly phase?: string;
      readonly message?: string;
      readonly syncResult?: { readonly resources: readonly object[] };
    };
    readonly history?: readonly { readonly revision: string; readonly deployedAt: string }[];
    readonly resources?: readonly {
      readonly kind: string;
      readonly status?: string;
      readonly health?: object;
    }[];
  };
}

type Model = KubeObject & {
  readonly spec: { readonly replicas: number; readonly model: { readonly version: string } };
  readonly status?: ModelDeploymentStatus;
};

let cluster: TestCluster;
let repository: Repository;
let argo: ArgoCd;
let api: KubeApi;
let objects: KubernetesObjectApi;
/** Writes rollbacks back. */
let writer: Subject;
/** What people change: the values of the environment. */
let values: Values;

/** Renders an environment as `npm run synth` does, and pushes that. */
async function pushValues(
  change: Partial<Values>,
  message: string,
  windows: ArgoEnvironment["windows"] = [],
): Promise<string> {
  values = { ...values, ...change };
  const rendered = renderCluster(values);
  const settings = { repoURL: repository.url, revision: "main", namespace: NAMESPACE };
  const environment = {
    name: "local",
    server: "https://kubernetes.default.svc",
    namespace: "baton",
    windows,
  };
  const files = new Map([...rendered].map(([file, text]) => [`clusters/local/manifests/${file}`, text]));
  for (const [path, text] of renderArgo(settings, [environment], () => holds(rendered)))
    files.set(path, text);
  files.set(
    "argocd/environments/local.yaml",
    `name: local\nserver: ${environment.server}\nnamespace: baton\n`,
  );
  await repository.write(files);
  const commit = repository.push(message);
  await refresh();
  return commit;
}

/** What a webhook of the Git server does. */
async function refresh(): Promise<void> {
  for (const { metadata } of await api.listAll(APPLICATIONS, { namespace: NAMESPACE })) {
    const annotations = { "argocd.argoproj.io/refresh": "normal" };
    await api.merge(APPLICATIONS, NAMESPACE, metadata.name, { metadata: { annotations } });
  }
}

/** What the server of Git has. */
function pushed(): string {
  repository.git("fetch", "--quiet", "origin");
  return repository.git("rev-parse", "origin/main");
}

const modelOf = (version: string): Pick<Values, "signalModel"> => ({
  signalModel: { ...values.signalModel, model: exampleModel(version) },
});

const model = () => api.get<Model>(MODELS, "baton", NAME);
const application = (name: string) => api.get<Application>(APPLICATIONS, NAMESPACE, name);
const stateOf = ({ status }: Application) => `${status?.sync?.status} ${status?.health?.status}`;

/** A release takes half a minute, more where the machine is slow. */
const UNTIL_MS = 120_000;

async function until(name: string, state: string, commit?: string): Promise<Application> {
  let last: Application | undefined;
  try {
    return await waitFor(
      `${name} to be ${state}`,
      async () => {
        last = await application(name);
        const there = commit === undefined || last.status?.sync?.revision === commit;
        return there && stateOf(last) === state ? last : undefined;
      },
      UNTIL_MS,
      100,
    );
  } catch (error) {
    throw new Error(`${String(error)}; it is ${JSON.stringify(last?.status)}\n${argo.output()}`);
  }
}

const whenModel = (what: string, check: (status: ModelDeploymentStatus) => unknown) =>
  waitFor(
    what,
    async () => {
      const { status = {} } = await model();
      return check(status) ? status : undefined;
    },
    90_000,
    50,
  );
const ended = (version: string, completionStatus: string) =>
  whenModel(`${version} to be ${completionStatus}`, ({ history = [], candidate, phase }) => {
    const [last] = history;
    const over = candidate === undefined && phase !== "Progressing";
    return over && last?.version === version && last.completionStatus === completionStatus;
  });

async function startArgo(): Promise<void> {
  const customizations = await readFile(join(ROOT, "argocd/install/argocd-cm.yaml"), "utf8");
  argo = await ArgoCd.start(cluster, customizations);
}

/** What a person does once, with an empty cluster. */
async function bootstrap(): Promise<void> {
  const text = await readFile(join(repository.work, "argocd/bootstrap/baton.yaml"), "utf8");
  for (const document of parseAllDocuments(text)) await objects.create(document.toJS());
  await until("baton", "Synced Healthy", pushed());
  await waitFor("the applications", () => application(RELEASED), 60_000);
  for (const name of APPLICATIONS_HERE) await until(name, "Synced Healthy", pushed());
}

async function windowsAre(count: number): Promise<void> {
  for (const name of APPLICATIONS_HERE) {
    await waitFor("the windows", async () => {
      const project = await api.get<Project>(PROJECTS, NAMESPACE, name);
      return (project.spec.syncWindows ?? []).length === count;
    });
  }
}

/** What the cluster has of what Git says: of each object the fields that are written there. */
async function ownedByGit(): Promise<Map<string, string>> {
  const owned = new Map<string, string>();
  for (const [file, text] of renderCluster(values)) {
    for (const document of parseAllDocuments(text)) {
      const wanted = document.toJS() as KubernetesObject & { metadata: { name: string } };
      const live = await objects.read(wanted);
      owned.set(`${file} ${wanted.kind} ${wanted.metadata.name}`, stringify(fieldsOf(live, wanted)));
    }
  }
  return owned;
}

/** Of a value the fields that another one has as well. */
function fieldsOf(value: unknown, like: unknown): unknown {
  if (Array.isArray(like) && Array.isArray(value)) return value.map((entry, i) => fieldsOf(entry, like[i]));
  if (typeof like !== "object" || like === null || typeof value !== "object" || value === null) return value;
  const fields = value as Record<string, unknown>;
  return Object.fromEntries(Object.entries(like).map(([key, part]) => [key, fieldsOf(fields[key], part)]));
}

async function verdict(): Promise<Verdict> {
  const bus = new KafkaBus({ brokers: [`127.0.0.1:${cluster.ports.kafka}`], clientId: "test" });
  try {
    return await verifyHistory(bus, NAME);
  } finally {
    await bus.close();
  }
}

beforeAll(async () => {
  await wipeCluster(CLUSTER);
  cluster = await upCluster(CLUSTER, (line) => console.error(line));
  const { folder, ports } = cluster;
  const kubeconfig = join(folder, "pki", "admin.kubeconfig");
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  api = new KubeApi(config, { fieldManager: "test" });
  objects = KubernetesObjectApi.makeApiClient(config);
  repository = await Repository.create();
  const local = environments().get("local") as Values;
  const marketData = { ...local.marketData, ratePerSecond: 300 };
  values = { ...local, marketData, signalModel: { ...local.signalModel, stepPause: "1s" } };
  writer = new Subject(process.execPath, [join(ROOT, "apps/git-write-back/main.ts")], {
    ...{
      KUBECONFIG: kubeconfig,
      KAFKA_BROKERS: `127.0.0.1:${ports.kafka}`,
      HTTP_PORT: "0",
    },
    ...{ GIT_URL: repository.url, GIT_PATH: "clusters/local", GIT_MODE: "push", LOG_LEVEL: "info" },
  });
  await startArgo();
}, 900_000);

afterAll(async () => {
  await writer?.end("SIGTERM");
  api?.close();
  await argo?.close();
  await wipeCluster(CLUSTER);
  await repository?.close();
}, 120_000);

describe("Git push to deploy", { timeout: 400_000 }, () => {
  it("brings everything up from an empty cluster", async () => {
    await pushValues({}, "Begin");
    const started = Date.now();
    await bootstrap();
    console.log(`from bootstrap to all healthy: ${Date.now() - started} ms`);
    expect((await model()).status?.stable?.version).toBe("1.0.0");
    // A sync is over when the platform was seen to work.
    const { status } = await waitFor("the sync to be over", async () => {
      const found = await application(PLATFORM);
      return found.status?.operationState?.phase === "Succeeded" ? found : undefined;
    });
    expect(status?.operationState?.syncResult?.resources).toContainEqual(
      expect.objectContaining({ kind: "Job", name: "smoke-test", hookPhase: "Succeeded" }),
    );
    console.log(`until the platform was seen to work: ${Date.now() - started} ms`);
  });

  it("brings a version in that is pushed, one group of instruments after another", async () => {
    const started = Date.now();
    const commit = await pushValues(modelOf("2.0.0"), "Release 2.0.0");
    await whenModel("its first step", ({ candidate, assignments = [] }) =>
      assignments.some(
        ({ revision, instruments }) => revision === candidate?.revision && instruments.includes("BTCUSDT"),
      ),
    );
    console.log(`from push to first step: ${Date.now() - started} ms`);
    await ended("2.0.0", "Promoted");
    const { status } = await until(RELEASED, "Synced Healthy", commit);
    // What the operator made is not in Git, and nothing that Argo CD may prune.
    expect(status?.resources?.map(({ kind }) => kind)).not.toContain("Deployment");
    const own = await api.listAll(DEPLOYMENTS, {
      namespace: "baton",
      labelSelector: `baton.dev/deployment=${NAME}`,
    });
    expect(own.length).toBeGreaterThan(0);
  });

  it("writes back that a harmful version was taken back, and does not try it again", async () => {
    const commit = await pushValues(modelOf("3.0.0"), "Release 3.0.0");
    await ended("3.0.0", "RolledBack");
    await until(RELEASED, "Synced Degraded", commit);
    const { stable, history } = (await model()).status ?? {};
    expect(stable?.version).toBe("2.0.0");
    const started = Date.now();
    writer.start();
    const written = await waitFor("the commit", () => (pushed() === commit ? undefined : pushed()));
    console.log(`from its start to the commit: ${Date.now() - started} ms`);
    repository.git("reset", "--quiet", "--hard", written);
    const trailers = repository.git("log", "-1", "--format=%(trailers:only,unfold)");
    expect(trailers).toContain("Baton-Deployment: baton/momentum");
    expect(trailers).toMatch(/^Baton-Offsets: md\.crypto\.main\/0@\d+, md\.crypto\.main\/1@\d+$/m);
    await refresh();
    await until(RELEASED, "Synced Healthy", written);
    values = { ...values, ...modelOf("2.0.0") };
    // Byte by byte what rendering it yields.
    const manifest = "manifests/models/momentum.yaml";
    const there = await readFile(join(repository.work, "clusters/local", manifest), "utf8");
    expect(there).toBe(renderCluster(values).get("models/momentum.yaml"));
    const after = (await model()).status;
    expect(after?.stable).toEqual(stable);
    expect(after?.history).toEqual(history);
    expect(pushed()).toBe(written);
  });

  it("heals what others change of Git's, leaves the operator's alone, and then rests", async () => {
    const annotations = {
      "baton.dev/command": JSON.stringify({ id: "x", verb: "abort", revision: "r-old" }),
    };
    await api.merge(MODELS, "baton", NAME, { metadata: { annotations }, spec: { replicas: 3 } });
    await waitFor("replicas as in Git", async () => (await model()).spec.replicas === 1, 60_000);
    expect((await model()).metadata.annotations).toMatchObject(annotations);
    const before = await until(RELEASED, "Synced Healthy");
    const versions = async () => (await model()).metadata.resourceVersion;
    await waitFor("one replica", async () => (await model()).status?.replicas === 1);
    const version = await versions();
    await new Promise((resolve) => setTimeout(resolve, 8_000));
    expect((await application(RELEASED)).status?.operationState).toEqual(before.status?.operationState);
    expect(await versions()).toBe(version);
  });

  it("promotes what somebody clicks on in the UI", async () => {
    await pushValues(
      { signalModel: { ...modelOf("1.0.0").signalModel, stepPause: "1h" } },
      "Release 1.0.0, slowly",
    );
    await whenModel(
      "its first step",
      ({ currentStepIndex = 0, phase }) => currentStepIndex > 0 && phase === "Paused",
    );
    await until(RELEASED, "Synced Suspended");
    await argo.act(RELEASED, NAME, "promote-full");
    await ended("1.0.0", "FastPromoted");
    await until(RELEASED, "Synced Healthy");
  });

  it("takes a harmful version back while Argo CD is down, and tells Git", async () => {
    const commit = await pushValues(
      { logLevel: "warn", signalModel: { ...modelOf("3.0.0").signalModel, stepPause: "1s" } },
      "Release 3.0.0 once more",
    );
    await whenModel("the release to begin", ({ candidate }) => candidate?.version === "3.0.0");
    await argo.kill();
    await ended("3.0.0", "RolledBack");
    expect((await model()).status?.stable?.version).toBe("1.0.0");
    const written = await waitFor("the commit", () => (pushed() === commit ? undefined : pushed()));
    argo.startParts();
    await refresh();
    // Git names 1.0.0 again, with the new level of logging: a release like any other. The platform's part as well: a sync
    // that is under way goes on in a window that is closed, and would write the old level over a newer one.
    for (const name of APPLICATIONS_HERE) await until(name, "Synced Healthy", written);
    expect((await model()).status?.stable?.version).toBe("1.0.0");
    repository.git("reset", "--quiet", "--hard", written);
    const { signalModel } = modelOf("1.0.0");
    values = { ...values, signalModel: { ...signalModel, stepPause: "1s" } };
  });

  it("syncs nothing by itself while a window says so", async () => {
    const windows = [
      { kind: "deny" as const, schedule: "* * * * *", duration: "1h", timeZone: "UTC", manualSync: true },
    ];
    await pushValues({}, "Close the window", windows);
    await windowsAre(1);
    const commit = await pushValues({ logLevel: "info" }, "Change something meanwhile", windows);
    await until(RELEASED, "OutOfSync Healthy", commit);
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    expect(stateOf(await application(RELEASED))).toBe("OutOfSync Healthy");
    const opened = await pushValues({}, "Open the window");
    await windowsAre(0);
    // Without a word Argo CD looks again after minutes.
    await refresh();
    for (const name of APPLICATIONS_HERE) {
      await until(name, "Synced Healthy", opened);
      await waitFor("its last sync to end", async () => (await application(name)).operation === undefined);
    }
  });

  it("comes back the same after its cluster is lost, with Git and Kafka, and goes on where it was", async () => {
    // The smoke test of the last sync may be about to be made anew.
    const before = await waitFor("all that Git owns", ownedByGit);
    const decided = await verdict();
    expect(decided).toMatchObject({ ok: true, violations: [] });
    const { stable } = (await model()).status ?? {};
    await argo.close();
    await writer.end("SIGTERM");
    await downCluster(CLUSTER);
    await rm(join(cluster.folder, "etcd"), { recursive: true });
    cluster = await upCluster(CLUSTER, (line) => console.error(line));
    await waitFor("an empty cluster", async () => {
      const names = await objects.list("v1", "Namespace");
      return !names.items.some(({ metadata }) => metadata?.name === NAMESPACE);
    });
    await startArgo();
    const started = Date.now();
    await bootstrap();
    console.log(`from bootstrap after the loss to all healthy: ${Date.now() - started} ms`);
    expect((await model()).status?.stable?.revision).toBe(stable?.revision);
    expect(await waitFor("all that Git owns", ownedByGit)).toEqual(before);
    const after = await waitFor(
      "decisions again",
      async () => {
        const now = await verdict();
        return now.counts.live > decided.counts.live + 1_000 ? now : undefined;
      },
      60_000,
      500,
    );
    expect(after).toMatchObject({ ok: true, violations: [] });
  });
});
