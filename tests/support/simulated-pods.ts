import type { Api, KubeObject, Resource } from "#operators/controller-kit/api.ts";
import { Reflector } from "#operators/controller-kit/reflector.ts";
import { DEPLOYMENTS, type Deployment, LABELS } from "#operators/model-deployment/adapters/deployment.ts";
import type { MemoryCluster } from "./memory-cluster.ts";

// Deployment controller and kubelet of a cluster in memory: pods come and go with a Deployment, a while after it was
// written.

const PODS: Resource = { group: "", version: "v1", plural: "pods", kind: "Pod" };
const START_MS = 300;

export class SimulatedPods {
  readonly #cluster: MemoryCluster;
  readonly #api: Api;
  readonly #follow: (deployment: Deployment, isGone: boolean) => void;
  readonly #deployments: Reflector<Deployment>;
  /** Revisions whose pods are not ready. */
  readonly #down = new Set<string>();
  #pods = 0;

  constructor(cluster: MemoryCluster, follow: (deployment: Deployment, isGone: boolean) => void) {
    this.#cluster = cluster;
    this.#api = cluster.api("kubelet");
    this.#follow = follow;
    this.#deployments = new Reflector<Deployment>({
      api: this.#api,
      resource: DEPLOYMENTS,
      onError: () => {},
      onChange: (deployment, change) => {
        follow(deployment, change === "deleted");
        if (change !== "deleted") setTimeout(() => void this.#see(deployment.metadata.name), START_MS);
      },
    });
  }

  start(): Promise<void> {
    return this.#deployments.start();
  }

  stop(): Promise<void> {
    return this.#deployments.stop();
  }

  /** Its pods are ready no more, or ready again. */
  async set(revision: string, isUp: boolean): Promise<void> {
    if (isUp) this.#down.delete(revision);
    else this.#down.add(revision);
    for (const { metadata } of this.#deployments.objects())
      if (metadata.labels?.[LABELS.revision] === revision) await this.#see(metadata.name);
  }

  isUp(revision: string): boolean {
    return !this.#down.has(revision);
  }

  async allUp(): Promise<void> {
    for (const revision of [...this.#down]) await this.set(revision, true);
  }

  async #see(name: string): Promise<void> {
    const deployment = [...this.#deployments.objects()].find(({ metadata }) => metadata.name === name);
    if (deployment === undefined) return;
    const { metadata, spec } = deployment;
    const { namespace = "" } = metadata;
    const revision = metadata.labels?.[LABELS.revision] ?? "";
    const template = spec.template.metadata ?? {};
    const isUp = !this.#down.has(revision);
    const replicas = spec.replicas ?? 1;
    const labelSelector = `${LABELS.deployment}=${metadata.labels?.[LABELS.deployment]},${LABELS.revision}=${revision}`;
    const pods = await this.#api.listAll(PODS, { namespace, labelSelector });
    for (const pod of pods.slice(replicas)) await this.#api.delete(PODS, namespace, pod.metadata.name);
    for (let i = pods.length; i < replicas; i++) await this.#make(deployment, template);
    const now = new Date().toISOString();
    for (const pod of await this.#api.listAll<
      KubeObject & { status?: { conditions?: { status: string }[] } }
    >(PODS, { namespace, labelSelector })) {
      const is = isUp ? "True" : "False";
      if (pod.status?.conditions?.[0]?.status === is) continue;
      const conditions = [{ type: "Ready", status: is, lastTransitionTime: now }];
      this.#cluster.setStatus(PODS, namespace, pod.metadata.name, { conditions, containerStatuses: [] });
    }
    const available = isUp ? replicas : 0;
    const known = deployment.status?.availableReplicas;
    const since = deployment.status?.conditions?.[0]?.lastTransitionTime;
    const lastTransitionTime = known === available && since !== undefined ? since : now;
    const status = isUp || replicas === 0 ? "True" : "False";
    this.#cluster.setStatus(DEPLOYMENTS, namespace, name, {
      replicas,
      updatedReplicas: replicas,
      availableReplicas: available,
      conditions: [{ type: "Available", status, lastTransitionTime }],
    });
    this.#follow(deployment, false);
  }

  async #make({ metadata }: Deployment, template: object): Promise<void> {
    this.#pods += 1;
    const { name, namespace = "", uid = "" } = metadata;
    const ownerReferences = [{ apiVersion: "apps/v1", kind: "Deployment", name, uid }];
    await this.#api.create(PODS, {
      metadata: { ...template, name: `${name}-${this.#pods}`, namespace, ownerReferences },
    });
  }
}
