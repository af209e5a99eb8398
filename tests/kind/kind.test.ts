import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, inject, it } from "vitest";
import { kubectl as kubectlOf } from "#clusters/kind/cluster.ts";
import type { ModelDeploymentStatus } from "#operators/model-deployment/api/status.ts";
import { exampleModel } from "#tests/support/signal-model.ts";
import { waitFor } from "#tests/support/wait.ts";

// The platform on real kubelets with real containers. The tests tell one story, each from where the one before has left
// things.

const NAME = inject("kind");
const NAMESPACE = "baton";

const kubectl = (...args: string[]) => kubectlOf(NAME, ...args);
const inBaton = (...args: string[]) => kubectl("-n", NAMESPACE, ...args);

interface Pod {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly spec: { readonly nodeName?: string };
  readonly status: {
    readonly phase: string;
    readonly containerStatuses?: readonly { readonly ready: boolean; readonly restartCount: number }[];
  };
}

async function pods(namespace: string, ...selector: string[]): Promise<Pod[]> {
  return JSON.parse(await kubectl("-n", namespace, "get", "pods", "-o", "json", ...selector)).items;
}

async function status(): Promise<ModelDeploymentStatus> {
  return JSON.parse(await inBaton("get", "modeldeployment", "momentum", "-o", "json")).status;
}

async function until(
  what: string,
  check: (status: ModelDeploymentStatus) => boolean,
): Promise<ModelDeploymentStatus> {
  return waitFor(
    what,
    async () => {
      const now = await status();
      if (check(now)) return now;
      // What it was like instead, where it does not become so.
      const { phase, message, history } = now;
      throw new Error(JSON.stringify({ phase, message, last: history?.[0] }));
    },
    120_000,
    500,
  );
}

/** Changes the model's version as a sync from Git would. */
async function release(version: string): Promise<void> {
  const model = exampleModel(version);
  await inBaton(
    "patch",
    "modeldeployment",
    "momentum",
    "--type=merge",
    "-p",
    JSON.stringify({ spec: { model } }),
  );
}

/** A pod of the command line's image, as restricted as the namespace wants it. */
function pod(name: string, labels: object, more: object, container: object): object {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: NAMESPACE, labels },
    spec: {
      restartPolicy: "Never",
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } },
      containers: [
        {
          name: "main",
          image: "baton/cli:kind",
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ["ALL"] },
          },
          ...container,
        },
      ],
      ...more,
    },
  };
}

async function create(object: object): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "baton-pod-"));
  try {
    const file = join(folder, "pod.json");
    await writeFile(file, JSON.stringify(object));
    await kubectl("create", "-f", file);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Runs a pod to its end and resolves with what it printed. */
async function runPod(name: string, labels: object, container: object): Promise<string> {
  await create(pod(name, labels, {}, container));
  try {
    await waitFor(
      `${name} to end`,
      async () =>
        ["Succeeded", "Failed"].includes(await inBaton("get", "pod", name, "-o", "jsonpath={.status.phase}")),
      90_000,
      500,
    );
    return await inBaton("logs", name);
  } finally {
    await inBaton("delete", "pod", name, "--wait=false");
  }
}

const app = (name: string) => ({ "app.kubernetes.io/name": name });

/** Which of some addresses take a connection from a pod with these labels. */
async function reachable(from: string, labels: object, targets: readonly string[]): Promise<string[]> {
  const script = `
    import { connect } from "node:net";
    // Policies take hold a moment after a pod has begun.
    await new Promise((resolve) => setTimeout(resolve, 3000));
    const tries = ${JSON.stringify(targets)}.map((target) => new Promise((resolve) => {
      const [host, port] = target.split(":");
      const socket = connect({ host, port: Number(port), timeout: 4000 });
      const end = (open) => { socket.destroy(); resolve(open ? target : undefined); };
      socket.on("connect", () => end(true)).on("error", () => end(false)).on("timeout", () => end(false));
    }));
    await Promise.all(tries).then((open) => console.log(JSON.stringify(open.filter(Boolean))));`;
  const text = await runPod(from, labels, {
    command: ["/usr/local/bin/node", "--input-type=module", "-e", script],
  });
  return JSON.parse(text);
}

async function history(): Promise<{ ok: boolean; counts: Record<string, number>; violations: object[] }> {
  const text = await runPod(`history-${Date.now()}`, app("cli"), {
    args: ["history", "verify", "momentum", "--json"],
    env: [{ name: "KAFKA_BROKERS", value: "kafka-0.kafka.baton-platform.svc:9092" }],
  });
  return JSON.parse(text.slice(text.indexOf("{")));
}

describe("the platform on real kubelets", () => {
  it("runs, with no server that had to be started again", async () => {
    for (const { metadata, status } of await pods("baton-platform")) {
      expect(status.containerStatuses, metadata.name).toMatchObject([{ ready: true, restartCount: 0 }]);
    }
    expect((await pods(NAMESPACE)).every(({ status }) => status.phase === "Running")).toBe(true);
  });

  it("refuses pods that may do more than they need", async () => {
    const privileged = pod("privileged", {}, {}, { securityContext: { privileged: true } });
    await expect(create(privileged)).rejects.toThrow(/violates PodSecurity "restricted:latest"/);
    const onTheNode = pod("host", {}, { hostNetwork: true }, {});
    await expect(create(onTheNode)).rejects.toThrow(/violates PodSecurity.*host namespaces/s);
  });

  it("lets nobody read secrets", async () => {
    for (const account of ["operator", "features", "market-data", "default"]) {
      const as = `--as=system:serviceaccount:${NAMESPACE}:${account}`;
      await expect(inBaton("get", "secrets", as), account).rejects.toThrow(/secrets is forbidden/);
    }
  });

  it("lets packets go where a flow is declared, and nowhere else", async () => {
    const kafka = "kafka-0.kafka.baton-platform.svc:9092";
    const redis = "redis.baton-platform.svc:6379";
    const prometheus = "prometheus.baton-platform.svc:9090";
    const alertmanager = "alertmanager.baton-platform.svc:9093";
    const apiServer = "kubernetes.default.svc:443";
    const all = [kafka, redis, prometheus, alertmanager, apiServer];
    const [cli, stranger, operator] = await Promise.all([
      reachable("from-cli", app("cli"), all),
      reachable("from-stranger", app("stranger"), all),
      reachable("from-operator", app("operator"), all),
    ]);
    expect(cli).toEqual([kafka, redis, prometheus]);
    expect(stranger).toEqual([]);
    expect(operator).toEqual([kafka, prometheus, apiServer]);
  });

  it("brings a good version in step by step", async () => {
    expect((await status()).stable?.version).toBe("1.0.0");
    await release("2.0.0");
    const first = await until("BTCUSDT at 2.0.0", ({ candidate, assignments = [] }) =>
      assignments.some(
        ({ instruments, revision }) => revision === candidate?.revision && instruments !== undefined,
      ),
    );
    expect(first.stable?.version).toBe("1.0.0");
    const done = await until(
      "2.0.0 promoted",
      ({ phase, stable }) => phase === "Healthy" && stable?.version === "2.0.0",
    );
    expect(done.history?.[0]).toMatchObject({ version: "2.0.0", completionStatus: "Promoted" });
  });

  it("takes a harmful version back by itself", async () => {
    await release("3.0.0");
    const done = await until("3.0.0 taken back", ({ history: [last] = [] }) => last?.version === "3.0.0");
    expect(done.history?.[0]).toMatchObject({ completionStatus: "RolledBack", reason: "AnalysisFailed" });
    expect(done.stable?.version).toBe("2.0.0");
    expect(done.assignments?.every(({ revision }) => revision === done.stable?.revision)).toBe(true);
    await release("2.0.0");
    await until("as it was", ({ phase }) => phase === "Healthy");
  });

  it("finishes a release whose operator is killed in the middle", async () => {
    // Where Kafka is not, so that the node of the model can be drained later.
    const [kafka] = await pods("baton-platform", "-l", "app.kubernetes.io/name=kafka");
    await kubectl("cordon", kafka?.spec.nodeName ?? "");
    const before = (await status()).stable?.revision;
    const env = [
      {
        op: "add",
        path: "/spec/template/spec/containers/0/env/-",
        value: { name: "DRAIN_SECONDS", value: "10" },
      },
    ];
    await inBaton("patch", "modeldeployment", "momentum", "--type=json", "-p", JSON.stringify(env));
    await until("something moved", ({ candidate, assignments = [] }) =>
      assignments.some(({ revision }) => revision === candidate?.revision),
    );
    const leader = await inBaton("get", "lease", "baton-operator", "-o", "jsonpath={.spec.holderIdentity}");
    await inBaton("delete", "pod", leader, "--grace-period=0", "--force");
    const done = await until(
      "promoted",
      ({ phase, stable }) => phase === "Healthy" && stable?.revision !== before,
    );
    expect(done.history?.[0]).toMatchObject({ completionStatus: "Promoted" });
    expect(await inBaton("get", "lease", "baton-operator", "-o", "jsonpath={.spec.holderIdentity}")).not.toBe(
      leader,
    );
    await kubectl("uncordon", kafka?.spec.nodeName ?? "");
  });

  it("goes on when a node is drained, with nothing lost and nothing decided twice", async () => {
    const [kafka] = await pods("baton-platform", "-l", "app.kubernetes.io/name=kafka");
    const [model] = await pods(NAMESPACE, "-l", "baton.dev/deployment=momentum");
    const node = model?.spec.nodeName ?? "";
    expect(node).not.toBe(kafka?.spec.nodeName);
    const before = await history();
    expect(before, JSON.stringify(before.violations)).toMatchObject({ ok: true, violations: [] });
    await kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s");
    await waitFor(
      "everything on the other node",
      async () => {
        const all = [...(await pods(NAMESPACE)), ...(await pods("baton-platform"))];
        return all.every(
          ({ spec, status: { containerStatuses = [] } }) =>
            spec.nodeName !== node &&
            containerStatuses.length > 0 &&
            containerStatuses.every(({ ready }) => ready),
        );
      },
      120_000,
      1_000,
    );
    await kubectl("uncordon", node);
    const after = await waitFor(
      "decisions after the drain",
      async () => {
        const verdict = await history();
        return !verdict.ok || (verdict.counts["live"] ?? 0) > (before.counts["live"] ?? 0) + 500
          ? verdict
          : undefined;
      },
      60_000,
      1_000,
    );
    expect(after, JSON.stringify(after.violations)).toMatchObject({ ok: true, violations: [] });
    expect(after.counts["handovers"]).toBeGreaterThan(0);
    await until("healthy", ({ phase }) => phase === "Healthy");
  });
});
