import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import {
  KubeConfig,
  type KubernetesObject,
  KubernetesObjectApi,
  PatchStrategy,
} from "@kubernetes/client-node";
import { parse, parseAllDocuments } from "yaml";
import { connects } from "#clusters/local/kafka.ts";
import { freePort } from "#clusters/local/ports.ts";
import { ensureToolchain, toolPath } from "#clusters/local/toolchain/index.ts";
import { ARGOCD } from "#clusters/local/toolchain/tools.ts";
import type { TestCluster } from "./fresh-cluster.ts";
import { Subject } from "./processes.ts";
import { waitFor } from "./wait.ts";

// The real Argo CD as processes against a local cluster: repo server, application controller, ApplicationSet controller and
// API server, which are one binary under several names.

export const NAMESPACE = "argocd";
const API = "argoproj.io/v1alpha1";
const PARTS = ["repo-server", "application-controller", "applicationset-controller", "server"] as const;
export type Part = (typeof PARTS)[number];

export class ArgoCd {
  readonly url: string;
  readonly #parts: ReadonlyMap<Part, Subject>;
  readonly #folder: string;

  /** Installs Argo CD's definitions and settings, and starts all of it. */
  static async start(cluster: TestCluster, customizations: string): Promise<ArgoCd> {
    const toolchain = await ensureToolchain({ progress: (line) => console.error(line), more: [ARGOCD] });
    const binary = toolPath(toolchain, "argocd");
    const kubeconfig = join(cluster.folder, "pki", "admin.kubeconfig");
    await install(kubeconfig, join(dirname(binary), "crds"), customizations);
    const folder = await mkdtemp(join(tmpdir(), "baton-argocd-"));
    const ports = await Promise.all(Array.from({ length: 8 }, () => freePort()));
    const [repo, repoMetrics, controllerMetrics, setMetrics, setProbe, setWebhook, server, serverMetrics] =
      ports;
    const redis = ["--redis", `127.0.0.1:${cluster.ports.redis}`];
    const reader = ["--kubeconfig", kubeconfig, "--namespace", NAMESPACE];
    const plain = "--repo-server-plaintext";
    const args: Record<Part, readonly string[]> = {
      "repo-server": [...redis, "--port", `${repo}`, "--metrics-port", `${repoMetrics}`, "--disable-tls"],
      "application-controller": [
        ...[...redis, ...reader, "--repo-server", `127.0.0.1:${repo}`, plain],
        ...["--metrics-port", `${controllerMetrics}`, "--self-heal-timeout-seconds", "1"],
      ],
      "applicationset-controller": [
        ...[...reader, "--argocd-repo-server", `127.0.0.1:${repo}`, plain],
        ...["--metrics-addr", `127.0.0.1:${setMetrics}`, "--probe-addr", `127.0.0.1:${setProbe}`],
        ...["--webhook-addr", `127.0.0.1:${setWebhook}`],
      ],
      server: [
        ...[...redis, ...reader, "--repo-server", `127.0.0.1:${repo}`, plain],
        ...["--port", `${server}`, "--metrics-port", `${serverMetrics}`, "--address", "127.0.0.1"],
        ...["--insecure", "--disable-auth"],
      ],
    };
    const env = {
      KUBECONFIG: kubeconfig,
      ARGOCD_FAKE_IN_CLUSTER: "true",
      ARGOCD_GPG_ENABLED: "false",
      HOME: folder,
      TMPDIR: folder,
      ARGOCD_ASK_PASS_SOCK: join(folder, "ask-pass.sock"),
    };
    const parts = new Map<Part, Subject>();
    for (const part of PARTS) {
      const path = join(folder, `argocd-${part}`);
      await symlink(binary, path);
      parts.set(part, new Subject(path, args[part], env));
    }
    const argo = new ArgoCd(`http://127.0.0.1:${server}`, parts, folder);
    try {
      argo.startParts();
      await waitFor("argocd-server", () => connects(server as number).then(() => true), 60_000);
    } catch (error) {
      const output = argo.output();
      await argo.close();
      throw new Error(`${String(error)}\n${output}`);
    }
    return argo;
  }

  private constructor(url: string, parts: ReadonlyMap<Part, Subject>, folder: string) {
    this.url = url;
    this.#parts = parts;
    this.#folder = folder;
  }

  /** Starts what does not run. */
  startParts(): void {
    for (const part of this.#parts.values()) if (!part.running) part.start();
  }

  /** Ends every process, as when its node is lost. */
  async kill(): Promise<void> {
    await Promise.all([...this.#parts.values()].map((part) => part.end("SIGKILL")));
  }

  output(): string {
    return [...this.#parts].map(([name, part]) => `== ${name}\n${part.output.slice(-3_000)}`).join("\n");
  }

  /** What a person does in the UI: an action on a ModelDeployment of an application. */
  async act(application: string, name: string, action: string): Promise<void> {
    const url = `${this.url}/api/v1/applications/${application}/resource/actions/v2`;
    const body = {
      ...{ appNamespace: NAMESPACE, namespace: "baton", resourceName: name, version: "v1alpha1" },
      ...{ group: "baton.dev", kind: "ModelDeployment", action },
    };
    const headers = { "content-type": "application/json" };
    const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${action}: ${response.status} ${await response.text()}`);
  }

  async close(): Promise<void> {
    await this.kill();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** What Argo CD's own manifests bring beside its Deployments. */
async function install(kubeconfig: string, definitions: string, customizations: string): Promise<void> {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  const api = KubernetesObjectApi.makeApiClient(config);
  const apply = (object: object) =>
    api.patch(
      object as KubernetesObject,
      undefined,
      undefined,
      "argocd-install",
      true,
      PatchStrategy.ServerSideApply,
    );
  await apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } });
  for (const kind of ["application", "applicationset", "appproject"]) {
    await apply(parse(await readFile(join(definitions, `${kind}-crd.yaml`), "utf8")));
  }
  // A controller that does not find its kinds looks for them only every ten seconds.
  await waitFor("Argo CD's kinds", () => api.list(API, "ApplicationSet", NAMESPACE).then(() => true));
  const labels = { "app.kubernetes.io/part-of": "argocd" };
  const settings = (name: string) => ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name, namespace: NAMESPACE, labels },
  });
  for (const name of [
    "cm",
    "cmd-params-cm",
    "rbac-cm",
    "ssh-known-hosts-cm",
    "tls-certs-cm",
    "gpg-keys-cm",
  ]) {
    await apply(settings(`argocd-${name}`));
  }
  for (const document of parseAllDocuments(customizations)) await apply(document.toJS());
  await apply({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: "argocd-secret", namespace: NAMESPACE, labels },
    stringData: { "server.secretkey": randomBytes(32).toString("base64") },
  });
}
