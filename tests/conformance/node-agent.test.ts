import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readlink, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AppsV1Api, CoordinationV1Api } from "@kubernetes/client-node";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { condition, isReady, PodBench, stateOf } from "#tests/support/kubernetes.ts";
import { waitFor } from "#tests/support/wait.ts";

// What the local node agent does as a kubelet would, and, at the end, what it does not do.

const cluster = inject("cluster");
const bench = new PodBench(cluster);
beforeAll(() => bench.open());
afterAll(() => bench.close());

const FOREVER = "trap 'exit 0' TERM; while true; do sleep 0.05; done";
const logOf = (pod: string) => bench.log(pod);
const probe = (port: number, extra = {}) => ({
  httpGet: { path: "/", port },
  periodSeconds: 1,
  failureThreshold: 1,
  ...extra,
});
/** An HTTP server on the Pod's own address, which fails while a file of its home is there. */
const server = (file: string) =>
  `exec node -e 'require("http").createServer((q,r)=>{const ok=!require("fs").existsSync(process.env.HOME+"/${file}");r.statusCode=ok?200:500;r.end()}).listen(8080,process.env.IP)'`;
const ip = [{ name: "IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } }];

describe("the node", () => {
  it("is registered, Ready, and renews its Lease", async () => {
    // The controller manager takes the taint of a new node away when it has seen it Ready.
    const node = await waitFor("a node without taints", async () => {
      const found = await bench.core.readNode({ name: "local" });
      return (found.spec?.taints ?? []).length === 0 ? found : undefined;
    });
    expect(node.status?.conditions?.find((entry) => entry.type === "Ready")?.status).toBe("True");
    const lease = await bench.config
      .makeApiClient(CoordinationV1Api)
      .readNamespacedLease({ name: "local", namespace: "kube-node-lease" });
    expect(Date.now() - new Date(String(lease.spec?.renewTime)).getTime()).toBeLessThan(40_000);
  });
});

describe("a Pod", () => {
  it("runs, has an address of its own and is Ready without probes", async () => {
    await bench.shell("plain", FOREVER);
    await bench.shell("plain2", FOREVER);
    const [one, two] = await Promise.all(
      ["plain", "plain2"].map((name) => bench.until(name, "ready", isReady)),
    );
    expect(one?.status?.phase).toBe("Running");
    expect(one?.status?.podIP).toMatch(/^127\./);
    expect(one?.status?.podIP).not.toBe(two?.status?.podIP);
    expect(one?.status?.containerStatuses?.[0]).toMatchObject({
      ready: true,
      started: true,
      restartCount: 0,
    });
    for (const type of ["PodScheduled", "Initialized", "ContainersReady", "Ready"]) {
      expect([type, one && condition(one, type)]).toEqual([type, "True"]);
    }
  });

  it("gets its environment from literals, ConfigMaps, Secrets, fields and resources, with $(NAME) expanded", async () => {
    const { core, namespace } = bench;
    await core.createNamespacedConfigMap({
      namespace,
      body: { metadata: { name: "settings" }, data: { color: "blue", size: "9" } },
    });
    await core.createNamespacedSecret({
      namespace,
      body: { metadata: { name: "keys" }, stringData: { key: "s3cret" } },
    });
    await bench.shell("env", "env; sleep 100", {
      envFrom: [{ configMapRef: { name: "settings" }, prefix: "CM_" }],
      env: [
        { name: "A", value: "1" },
        { name: "B", value: "$(A)-$(CM_color)-$$(A)-$(NONE)" },
        { name: "KEY", valueFrom: { secretKeyRef: { name: "keys", key: "key" } } },
        { name: "OPTIONAL", valueFrom: { configMapKeyRef: { name: "none", key: "x", optional: true } } },
        { name: "POD", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } },
        { name: "APP", valueFrom: { fieldRef: { fieldPath: "metadata.labels['app']" } } },
        { name: "IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
        { name: "CPU", valueFrom: { resourceFieldRef: { resource: "limits.cpu" } } },
      ],
      resources: { limits: { cpu: "2" } },
    });
    const pod = await bench.until("env", "ready", isReady);
    const lines = await waitFor("the environment", () => {
      const text = logOf("env").split("\n");
      return text.includes("CPU=2") ? text : undefined;
    });
    for (const line of [
      "A=1",
      "B=1-blue-$(A)-$(NONE)",
      "KEY=s3cret",
      "POD=env",
      "APP=env",
      "CM_size=9",
      `IP=${pod.status?.podIP}`,
    ]) {
      expect(lines).toContain(line);
    }
    expect(lines.some((line) => line.startsWith("OPTIONAL"))).toBe(false);
    expect(lines.some((line) => line.startsWith("KUBECONFIG") || line.startsWith("BATON_"))).toBe(false);
  });

  it("waits with CreateContainerConfigError until its ConfigMap exists", async () => {
    const { core, namespace } = bench;
    await bench.shell("late", FOREVER, { envFrom: [{ configMapRef: { name: "later" } }] });
    const pod = await bench.until(
      "late",
      "config error",
      (entry) => stateOf(entry)?.waiting?.reason === "CreateContainerConfigError",
    );
    expect(stateOf(pod)?.waiting?.message).toContain("later");
    expect(pod.status?.phase).toBe("Pending");
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: "later" }, data: {} } });
    await bench.until("late", "ready", isReady);
  });

  it("says ErrImagePull for an image that it does not know", async () => {
    await bench.shell("unknown", FOREVER, { image: "nobody/nothing:1" });
    const pod = await bench.until(
      "unknown",
      "image error",
      (entry) => stateOf(entry)?.waiting?.reason === "ErrImagePull",
    );
    expect(stateOf(pod)?.waiting?.message).toContain("nobody/nothing:1");
  });
});

describe("the end of a container", () => {
  it("is Succeeded with exit code 0 and Never", async () => {
    await bench.shell("done", "echo out; echo err >&2", {}, { restartPolicy: "Never" });
    const pod = await bench.until("done", "the end", (entry) => entry.status?.phase === "Succeeded");
    expect(stateOf(pod)?.terminated).toMatchObject({ exitCode: 0, reason: "Completed" });
    expect(condition(pod, "Ready")).toBe("False");
    expect(logOf("done").split("\n")).toEqual(expect.arrayContaining(["out", "err"]));
  });

  it("is Failed with the exit code under Never, and 128 + signal when killed", async () => {
    await bench.shell("seven", "exit 7", {}, { restartPolicy: "Never" });
    await bench.shell("killed", "kill -9 $$", {}, { restartPolicy: "Never" });
    const seven = await bench.until("seven", "the end", (entry) => entry.status?.phase === "Failed");
    expect(stateOf(seven)?.terminated).toMatchObject({ exitCode: 7, reason: "Error" });
    const killed = await bench.until("killed", "the end", (entry) => entry.status?.phase === "Failed");
    expect(stateOf(killed)?.terminated).toMatchObject({ exitCode: 137, signal: 9 });
  });

  it("is followed by restarts with back-off, counted, with the last state kept", async () => {
    await bench.shell("crash", "exit 3");
    const pod = await bench.until(
      "crash",
      "back-off",
      (entry) =>
        stateOf(entry)?.waiting?.reason === "CrashLoopBackOff" &&
        (entry.status?.containerStatuses?.[0]?.restartCount ?? 0) >= 2,
    );
    expect(pod.status?.containerStatuses?.[0]?.lastState?.terminated?.exitCode).toBe(3);
    expect(pod.status?.phase).toBe("Running");
    const before = pod.status?.containerStatuses?.[0]?.restartCount ?? 0;
    await sleep(500);
    expect((await bench.pod("crash")).status?.containerStatuses?.[0]?.restartCount).toBe(before);
  });

  it("is not followed by a restart under OnFailure after success", async () => {
    await bench.shell("once", "exit 0", {}, { restartPolicy: "OnFailure" });
    await bench.until("once", "the end", (entry) => entry.status?.phase === "Succeeded");
    await sleep(300);
    expect((await bench.pod("once")).status?.containerStatuses?.[0]?.restartCount).toBe(0);
  });
});

describe("init containers", () => {
  it("run one after another before the others; the Pod is Pending meanwhile", async () => {
    const init = (name: string, script: string) => ({
      name,
      image: "test/shell:1",
      command: ["sh", "-c"],
      args: [script],
    });
    await bench.shell(
      "init",
      FOREVER,
      {},
      { initContainers: [init("first", "sleep 0.5"), init("second", "exit 0")] },
    );
    const early = await bench.until(
      "init",
      "pending",
      (entry) => entry.status?.initContainerStatuses?.[0]?.state?.running,
    );
    expect(early.status?.phase).toBe("Pending");
    expect(condition(early, "Initialized")).toBe("False");
    const pod = await bench.until("init", "ready", isReady);
    expect(pod.status?.initContainerStatuses?.map((status) => status.state?.terminated?.exitCode)).toEqual([
      0, 0,
    ]);
  });
});

describe("probes", () => {
  it("readiness makes a Pod ready and unready without restarting it", async () => {
    const file = join(bench.home("probed"), "unready");
    await bench.shell("probed", `touch $HOME/unready; ${server("unready")}`, {
      env: ip,
      readinessProbe: probe(8080),
    });
    await bench.until("probed", "running", (entry) => stateOf(entry)?.running);
    await sleep(1_500);
    expect(isReady(await bench.pod("probed"))).toBe(false);
    await rm(file);
    await bench.until("probed", "ready", isReady);
    await writeFile(file, "");
    const pod = await bench.until("probed", "unready", (entry) => !isReady(entry));
    expect(pod.status?.containerStatuses?.[0]?.restartCount).toBe(0);
    await rm(file);
  });

  it("liveness restarts a container that fails", async () => {
    await bench.shell("alive", `(sleep 2; touch $HOME/dead) & ${server("dead")}`, {
      env: ip,
      livenessProbe: probe(8080, { initialDelaySeconds: 1 }),
    });
    const pod = await bench.until(
      "alive",
      "a restart",
      (entry) => (entry.status?.containerStatuses?.[0]?.restartCount ?? 0) >= 1,
    );
    expect(pod.status?.containerStatuses?.[0]?.lastState?.terminated).toBeDefined();
  });

  it("exec is a failure when the command fails", async () => {
    await bench.shell("failing", "sleep 30", {
      readinessProbe: { exec: { command: ["false"] }, periodSeconds: 1 },
    });
    await bench.until("failing", "running", (entry) => stateOf(entry)?.running);
    await sleep(2_000);
    expect(isReady(await bench.pod("failing"))).toBe(false);
  });

  it("startup holds the others back until it passes; tcpSocket and exec work as well", async () => {
    await bench.shell("slow", `sleep 1.5; ${server("nowhere")}`, {
      env: ip,
      startupProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1, failureThreshold: 30 },
      livenessProbe: probe(8080),
      readinessProbe: { exec: { command: ["true"] }, periodSeconds: 1 },
    });
    const early = await bench.until("slow", "running", (entry) => stateOf(entry)?.running);
    expect(early.status?.containerStatuses?.[0]).toMatchObject({ started: false, ready: false });
    const pod = await bench.until("slow", "ready", isReady);
    expect(pod.status?.containerStatuses?.[0]).toMatchObject({ started: true, restartCount: 0 });
  });
});

describe("deletion", () => {
  it("sends SIGTERM, waits for a clean end and removes the Pod", async () => {
    await bench.shell("polite", "trap 'echo bye; exit 0' TERM; while true; do sleep 0.05; done");
    await bench.until("polite", "ready", isReady);
    await sleep(300);
    await bench.core.deleteNamespacedPod({ name: "polite", namespace: bench.namespace });
    await gone("polite");
    expect(logOf("polite")).toContain("bye");
  });

  it("sends SIGKILL to all of it when the grace period is over", async () => {
    await bench.shell(
      "stubborn",
      "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo child; while true; do sleep 0.05; done' & while true; do sleep 0.05; done",
    );
    await bench.until("stubborn", "ready", isReady);
    await waitFor("the child", () => logOf("stubborn").includes("child"));
    const all = await bench.processes("stubborn");
    expect(all.length).toBeGreaterThanOrEqual(3);
    const started = Date.now();
    await bench.core.deleteNamespacedPod({
      name: "stubborn",
      namespace: bench.namespace,
      body: { gracePeriodSeconds: 1 },
    });
    await gone("stubborn");
    expect(Date.now() - started).toBeGreaterThan(900);
    // The agent says so when the last one is gone.
    expect(all.filter((pid) => existsSync(`/proc/${pid}`))).toEqual([]);
  });

  it("of a Deployment's Pod makes a new one", async () => {
    const apps = bench.config.makeApiClient(AppsV1Api);
    const { namespace } = bench;
    const labels = { app: "web" };
    const container = { name: "main", image: "test/shell:1", args: [FOREVER] };
    await apps.createNamespacedDeployment({
      namespace,
      body: {
        metadata: { name: "web" },
        spec: {
          selector: { matchLabels: labels },
          template: {
            metadata: { labels },
            spec: { containers: [container], terminationGracePeriodSeconds: 0 },
          },
        },
      },
    });
    const list = async () =>
      (await bench.core.listNamespacedPod({ namespace, labelSelector: "app=web" })).items;
    const [first] = await waitFor("the Pod", async () => ((await list()).some(isReady) ? list() : undefined));
    await bench.core.deleteNamespacedPod({ name: first?.metadata?.name ?? "", namespace });
    await waitFor("another Pod", async () =>
      (await list()).some((pod) => isReady(pod) && pod.metadata?.uid !== first?.metadata?.uid),
    );
  });
});

describe("a service account", () => {
  it("is usable through KUBECONFIG with the rights that it has and no others", async () => {
    const { namespace } = bench;
    const script = `node -e '
      const {KubeConfig,CoreV1Api}=require("@kubernetes/client-node");
      const c=new KubeConfig();c.loadFromDefault();
      c.makeApiClient(CoreV1Api).listNamespacedSecret({namespace:"${namespace}"}).then(()=>console.log("allowed"),(e)=>console.log("code",e.code));
      setTimeout(()=>{},1e6)'`;
    await bench.shell("account", script, {}, { automountServiceAccountToken: true });
    await waitFor("the answer", () => logOf("account").includes("code 403"));
  });
});

describe("what is in a container", () => {
  const outsider = spawn("sleep", ["1000"], { env: { OUTSIDE: "secret" } });
  afterAll(() => outsider.kill());

  it("reaches nothing that is outside: no signal, no process, no environment, no key of the cluster", async () => {
    const space = await readlink("/proc/self/ns/pid");
    const script = [
      // What would harm the machine is not tried where it could.
      `test "$(readlink /proc/self/ns/pid)" != "${space}" || exit 66`,
      "sleep 1000 & kill -TERM -1; kill -KILL -1",
      // The shell itself is spared by its own signal; what it started is not.
      "wait $!; echo ended $?",
      `kill -0 ${outsider.pid} || echo no such process`,
      `cat /proc/1/environ /proc/${outsider.pid}/environ /proc/*/environ | tr '\\0' '\\n' | grep SECRET`,
      "ls /proc | grep -c '^[0-9]'",
      `ls ${join(cluster.folder, "pki")} ${join(cluster.folder, "pods")} || echo no keys`,
      "cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern",
      "echo over; sleep 1000",
    ].join("\n");
    // As root, with all that a container can have by default.
    await bench.shell("killer", script, { securityContext: { runAsUser: 0 } });
    const lines = await waitFor("the end of the script", () => {
      const text = logOf("killer").split("\n");
      return text.includes("over") ? text : undefined;
    });
    expect(lines).toEqual(expect.arrayContaining(["ended 143", "no such process", "no keys"]));
    expect(lines.join("\n")).not.toMatch(/OUTSIDE|secret/);
    expect(lines.filter((line) => /core_pattern: Read-only file system/.test(line))).toHaveLength(1);
    expect(outsider.exitCode ?? outsider.signalCode).toBeNull();
    expect((await bench.pod("killer")).status?.containerStatuses?.[0]?.restartCount).toBe(0);
  });

  it("is the user of its manifest, with the rights of its manifest", async () => {
    const script = "id -u; id -g; id -G; grep -E 'CapBnd|CapEff|NoNewPrivs' /proc/self/status; sleep 1000";
    await bench.shell("image-user", script);
    await bench.shell(
      "named-user",
      script,
      { securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } } },
      { securityContext: { runAsUser: 12_345, runAsGroup: 23_456, fsGroup: 34_567, runAsNonRoot: true } },
    );
    const [image, named] = await Promise.all(
      ["image-user", "named-user"].map((name) =>
        waitFor(name, () => {
          const words = logOf(name).split(/\s+/);
          return words.includes("NoNewPrivs:") ? words : undefined;
        }),
      ),
    );
    expect(image?.slice(0, 2)).toEqual(["65532", "65532"]);
    expect(named?.slice(0, 4)).toEqual(["12345", "23456", "23456", "34567"]);
    const none = "0".repeat(16);
    expect(named?.slice(4, 10)).toEqual(["CapEff:", none, "CapBnd:", none, "NoNewPrivs:", "1"]);
    await bench.shell("root", script, { securityContext: { runAsNonRoot: true, runAsUser: 0 } });
    const refused = await bench.until("root", "refusal", (entry) => stateOf(entry)?.waiting?.message);
    expect(stateOf(refused)?.waiting?.reason).toBe("CreateContainerConfigError");
  });

  it("runs exec probes too: as the same user, among the same processes", async () => {
    await bench.shell("inside", FOREVER, {
      readinessProbe: {
        exec: {
          command: ["sh", "-c", 'test "$(id -u)" = 65532 && test "$(ls /proc | grep -c "^[0-9]")" -lt 10'],
        },
        periodSeconds: 1,
      },
    });
    await bench.until("inside", "ready", isReady);
  });

  it("says StartError and why when its program cannot be started", async () => {
    await bench.shell("nothing", "", { command: ["/no/such/program"] }, { restartPolicy: "Never" });
    const pod = await bench.until("nothing", "the end", (entry) => entry.status?.phase === "Failed");
    expect(stateOf(pod)?.terminated).toMatchObject({
      exitCode: 128,
      reason: "StartError",
      message: expect.stringContaining("/no/such/program"),
    });
  });
});

describe("what the agent does not do", () => {
  it("mounts no volumes, and says so instead of running the Pod differently", async () => {
    await bench.shell(
      "mounts",
      FOREVER,
      { volumeMounts: [{ name: "data", mountPath: "/data" }] },
      { volumes: [{ name: "data", emptyDir: {} }] },
    );
    const pod = await bench.until(
      "mounts",
      "refusal",
      (entry) => stateOf(entry)?.waiting?.reason === "CreateContainerConfigError",
    );
    expect(stateOf(pod)?.waiting?.message).toMatch(/volume data: the local node agent mounts no volumes/);
  });

  it("makes no root writable, sets no limits and gives no network of its own", async () => {
    await bench.shell("loose", "touch /x; touch $HOME/y /tmp/z && echo wrote; cat /proc/net/tcp; sleep 100");
    await waitFor("the output", () => logOf("loose").includes("wrote"));
    expect(logOf("loose")).toContain("Read-only file system");
    const port = cluster.ports.apiserver.toString(16).toUpperCase().padStart(4, "0");
    expect(logOf("loose")).toContain(`0100007F:${port}`);
  });
});

async function gone(name: string): Promise<void> {
  await waitFor(`${name} is gone`, async () => {
    try {
      await bench.pod(name);
      return false;
    } catch {
      return true;
    }
  });
}
