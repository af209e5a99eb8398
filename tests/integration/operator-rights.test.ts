import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { CLUSTER_RULES, OWN_RULES } from "#charts/rights.ts";
import { auditLog } from "#clusters/local/supervisor/processes.ts";
import { KubeApi, type KubeObject, type Resource } from "#operators/controller-kit/api.ts";
import { LeaderElection, type LeaseSpec } from "#operators/controller-kit/lease.ts";
import { Cluster } from "#operators/model-deployment/adapters/cluster.ts";
import { DEPLOYMENTS } from "#operators/model-deployment/adapters/deployment.ts";
import { MODEL_DEPLOYMENTS, View } from "#operators/model-deployment/adapters/view.ts";
import { type Applied, applyCharts, operatorAccount } from "#tests/support/operator-account.ts";
import { OperatorBench, SHELL } from "#tests/support/operator-bench.ts";
import { waitFor } from "#tests/support/wait.ts";

// The operator under the service account that the charts give it: it can do what it needs, it needs what it can do (both
// by the API server's audit log), and once another leads it can write nothing any more.

const cluster = inject("cluster");
const bench = new OperatorBench(cluster);
const LEASES: Resource = { group: "coordination.k8s.io", version: "v1", plural: "leases", kind: "Lease" };

let account: KubeApi;
let election: LeaderElection;
let epoch = 0;
let applied: readonly Applied[] = [];

beforeAll(async () => {
  await bench.open();
  await bench.stopOperator();
  applied = await applyCharts(bench);
  account = new KubeApi(await operatorAccount(bench), { fieldManager: "baton" });
  election = new LeaderElection({
    api: account,
    namespace: bench.namespace,
    name: "baton-operator",
    identity: "test",
    onElected: (number) => {
      epoch = number;
    },
    onLost: () => {},
  });
  election.start();
  await waitFor("the lease", () => epoch > 0);
  await bench.startOperator({ api: account, epoch });
});
afterAll(async () => {
  await bench.stopOperator();
  await election.stop();
  for (const { resource, object } of applied) {
    await bench.api.delete(resource, object.metadata.namespace, object.metadata.name);
  }
  account.close();
  await bench.close();
});

describe("the operator's rights", { timeout: 120_000 }, () => {
  it("are enough for all that it does", async () => {
    const spec = (version: string) =>
      bench.plainSpec(version, (draft) => {
        draft["revisionHistoryLimit"] = 0;
        draft["analysis"] = { templates: [{ name: "errors" }, { name: "probe" }] };
      });
    const { name: _, ...container } = SHELL;
    await bench.template("probe", {
      metrics: [
        {
          name: "job",
          interval: "2s",
          count: 1,
          provider: { job: { container: { ...container, args: ['test "{{revision}}" != ""'] } } },
        },
      ],
    });
    expect(await bench.create(spec("1.0.0"))).toBeUndefined();
    await bench.stable("1.0.0");
    await bench.update(spec("2.0.0"));
    const { stable } = await bench.stable("2.0.0");
    const { lastVerb } = await bench.status();
    expect(lastVerb).toBeUndefined();
    expect(await bench.baton("restart")).toMatchObject({ code: 0 });
    // Beyond the limit of those that are kept.
    await waitFor("the old revision to be deleted", async () => {
      const found = await bench.api.listAll(DEPLOYMENTS, { namespace: bench.namespace });
      return found.length === 1 && found[0]?.metadata.name.endsWith(stable?.revision ?? "-");
    });
  });

  it("are all used, nothing was refused, and no Secret was asked for", async () => {
    const lines = (await readFile(auditLog(cluster.folder), "utf8")).trim().split("\n");
    interface Entry {
      readonly verb: string;
      readonly user: { readonly username: string };
      readonly objectRef?: {
        readonly apiGroup?: string;
        readonly resource: string;
        readonly subresource?: string;
      };
      readonly responseStatus?: { readonly code: number };
    }
    const own = lines
      .map((line) => JSON.parse(line) as Entry)
      .filter(({ user }) => user.username === `system:serviceaccount:${bench.namespace}:operator`);
    const keyOf = ({ verb, objectRef }: Entry) => {
      const { apiGroup = "", resource = "", subresource } = objectRef ?? { resource: "" };
      return `${verb} ${apiGroup}/${resource}${subresource === undefined ? "" : `/${subresource}`}`;
    };
    expect(own.filter(({ responseStatus }) => responseStatus?.code === 403).map(keyOf)).toEqual([]);
    const used = new Set(own.map(keyOf));
    expect([...used].filter((key) => key.includes("secrets"))).toEqual([]);
    const given = [...CLUSTER_RULES, ...OWN_RULES].flatMap(({ apiGroups, resources, verbs }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) => verbs.map((verb) => `${verb} ${group}/${resource}`)),
      ),
    );
    // An apply that makes an object asks for `create` too, and is written down as `patch`. The finalizers are no request:
    // the API server looks whether they might be changed when an owner is named that blocks.
    const unseen = given.filter((right) => !used.has(right));
    const implied = new Set([
      "create apps/deployments",
      "create policy/poddisruptionbudgets",
      "create batch/jobs",
      "create /events",
      "update baton.dev/modeldeployments/finalizers",
    ]);
    expect(unseen.filter((right) => !implied.has(right))).toEqual([]);
    expect([...used].filter((key) => !given.includes(key))).toEqual([]);
  });

  it("end when another operator leads, for status and for Deployments", async () => {
    const now = new Cluster(account, epoch);
    const old = new Cluster(account, epoch - 1);
    const view = new View({
      api: account,
      namespace: bench.namespace,
      onChange: () => {},
      onError: () => {},
    });
    await view.start();
    const seen = view.see(`${bench.namespace}/${bench.name}`);
    await view.stop();
    if (seen === undefined) throw new Error("gone");
    const revision = seen.status.stable?.revision ?? "";
    const scale = { kind: "Scale", revision, replicas: 0, template: "own" } as const;
    await expect(old.scale(seen, scale)).rejects.toThrow("another operator leads");
    await expect(old.writeStatus(seen.object, { ...seen.status, message: "stale" })).rejects.toThrow(
      "another operator leads",
    );
    expect((await bench.status()).message).not.toBe("stale");
    // The one that leads writes; and where somebody takes the lease it does no more.
    await now.scale(seen, { ...scale, replicas: 1 });
    await bench.stopOperator();
    await election.stop();
    const lease = await bench.api.get<KubeObject & { readonly spec: LeaseSpec }>(
      LEASES,
      bench.namespace,
      "baton-operator",
    );
    const taken = { ...lease.spec, leaseTransitions: (lease.spec.leaseTransitions ?? 0) + 1 };
    await bench.api.merge(LEASES, bench.namespace, "baton-operator", { spec: taken });
    const outcome = () =>
      now.scale(seen, { ...scale, replicas: 1 }).then(
        () => "written",
        ({ message }: Error) => message,
      );
    const isFenced = async () => (await outcome()).includes("another operator leads");
    await waitFor("the fence", isFenced);
    // Without a lease nobody leads, which is no reason to refuse everybody's Deployments.
    await bench.api.delete(LEASES, bench.namespace, "baton-operator");
    await waitFor("a write without a lease", async () => (await outcome()) === "written");
    const metadata = { name: "baton-operator", namespace: bench.namespace };
    await bench.api.create<KubeObject>(LEASES, { metadata, spec: taken } as KubeObject);
    await waitFor("the fence again", isFenced);
    // Without the fence the stale write goes through: it is the fence that keeps it out.
    const binding = applied.find(({ object }) => object.kind === "ValidatingAdmissionPolicyBinding");
    if (binding === undefined) throw new Error("no binding");
    await bench.api.delete(binding.resource, undefined, binding.object.metadata.name);
    await waitFor("the stale write", () =>
      old.writeStatus(seen.object, { ...seen.status, message: "stale" }).then(
        () => true,
        () => false,
      ),
    );
    expect((await bench.api.get(MODEL_DEPLOYMENTS, bench.namespace, bench.name)).metadata.name).toBe(
      bench.name,
    );
    expect((await bench.status()).message).toBe("stale");
  });
});
