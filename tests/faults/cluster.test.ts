import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { downCluster, readStatus, upCluster } from "#clusters/local/lifecycle.ts";
import { queryValue } from "#clusters/local/prometheus.ts";
import { type ClusterState, clusterFolder, openCluster, supervisorPid } from "#clusters/local/state.ts";
import { exec } from "#clusters/local/toolchain/exec.ts";
import { clusterView } from "#clusters/local/view.ts";
import { isReady, PodBench } from "#tests/support/kubernetes.ts";
import { waitFor } from "#tests/support/wait.ts";

const root = join(import.meta.dirname, "..", "..");
const NAMES = ["faults", "faults-b", "faults-port"];
let state: ClusterState;
let bench: PodBench;

async function wipe(): Promise<void> {
  for (const name of NAMES) {
    await downCluster(name);
    await rm(clusterFolder(name), { recursive: true, force: true });
  }
}

beforeAll(async () => {
  await wipe();
  process.env["BATON_IMAGES"] = join(root, "tests/support/images.yaml");
  state = await upCluster("faults", () => {});
  bench = new PodBench(state);
  await bench.open();
  const serve = `exec node -e 'require("http").createServer((q,r)=>r.end("up_since{} 1\\n".replace("{}",""))).listen(8080,process.env.IP)'`;
  await bench.core.createNamespacedPod({
    namespace: bench.namespace,
    body: {
      metadata: {
        name: "steady",
        annotations: {
          "prometheus.io/scrape": "true",
          "prometheus.io/port": "8080",
          "prometheus.io/path": "/metrics",
        },
      },
      spec: {
        automountServiceAccountToken: false,
        containers: [
          {
            name: "main",
            image: "test/shell:1",
            args: [serve],
            env: [{ name: "IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } }],
            readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 },
          },
        ],
      },
    },
  });
  await bench.until("steady", "ready", isReady, 30_000);
});
afterAll(wipe);

const podPid = () => bench.programOf("steady");
const pidOf = async (name: string) =>
  (await readStatus(state.folder))?.processes.find((entry) => entry.name === name)?.pid;
/** Never with an unknown number: 0 would be everything that we started. */
function kill(pid: number | undefined): void {
  if (pid === undefined || pid <= 1) throw new Error("no such process");
  process.kill(pid, "SIGKILL");
}
const cli = (...args: string[]) => exec(process.execPath, ["clusters/local/cli.ts", ...args], { cwd: root });

describe("the local cluster", () => {
  it("uses less than 1.5 GB", async () => {
    expect((await clusterView(state)).memoryMb).toBeLessThan(1_500);
  });

  it("has Prometheus read a Pod by its annotations", async () => {
    const value = await waitFor(
      "the sample",
      () => queryValue(state.ports.prometheus, `up_since{pod="steady"}`),
      15_000,
    );
    expect(value).toBe(1);
  });

  it.each(["apiserver", "etcd", "kafka", "redis"])(
    "starts %s again after SIGKILL; Pods go on and nothing is lost",
    async (name) => {
      const pod = await podPid();
      const uid = (await bench.pod("steady")).metadata?.uid;
      const before = await pidOf(name);
      kill(before);
      await waitFor(
        `${name} ready again`,
        async () => {
          const status = await readStatus(state.folder);
          const entry = status?.processes.find((member) => member.name === name);
          return entry?.state === "ready" && entry.pid !== before && entry.restarts >= 1;
        },
        60_000,
      );
      const after = await waitFor("the Pod", () => bench.pod("steady"), 30_000);
      expect(after.metadata?.uid).toBe(uid);
      expect(after.status?.containerStatuses?.[0]?.restartCount).toBe(0);
      expect(await podPid()).toBe(pod);
      expect(existsSync(`/proc/${pod}`)).toBe(true);
      // The control plane works: something new gets run.
      await bench.shell(`after-${name}`, "exec sleep 1000");
      await bench.until(`after-${name}`, "ready", isReady, 30_000);
    },
  );

  it("keeps what was deployed over down and up, and leaves no process behind", async () => {
    const pids = (await clusterView(state)).processes.map((entry) => entry.pid);
    const pod = await podPid();
    expect(await downCluster("faults")).toBe(true);
    for (const pid of [...pids, pod]) expect([pid, existsSync(`/proc/${pid}`)]).toEqual([pid, false]);
    await upCluster("faults", () => {});
    const after = await bench.until(
      "steady",
      "ready again",
      (entry) => isReady(entry) && (entry.status?.containerStatuses?.[0]?.restartCount ?? 0) > 0,
      30_000,
    );
    expect(after.status?.phase).toBe("Running");
  });

  it("runs beside another one on other ports and in another folder", async () => {
    const other = await upCluster("faults-b", () => {});
    expect(other.ports.apiserver).not.toBe(state.ports.apiserver);
    expect(await supervisorPid(state.folder)).not.toBe(await supervisorPid(other.folder));
    const namespaces = await new PodBench(other).core.listNamespace();
    expect(namespaces.items.map((entry) => entry.metadata?.name)).not.toContain(bench.namespace);
    expect((await cli("status", "--name", "faults-b", "--json")).code).toBe(0);
    expect((await cli("reset", "--name", "faults-b")).code).toBe(0);
    expect(existsSync(other.folder)).toBe(false);
    expect((await cli("status", "--name", "faults")).code).toBe(0);
  });

  it("dies with its supervisor: SIGKILL leaves no orphan", async () => {
    const processes = (await clusterView(state)).processes.filter((entry) => entry.name !== "supervisor");
    // A daemon that has left its program's group and session, and hears no signal.
    await bench.shell(
      "daemon",
      "setsid sh -c 'trap \"\" TERM HUP; echo up; while true; do sleep 1; done' & sleep 1000",
    );
    await waitFor("the daemon", () => bench.log("daemon").includes("up"));
    const inside = [...(await bench.processes("daemon")), ...(await bench.processes("steady"))];
    expect(inside.length).toBeGreaterThanOrEqual(5);
    const supervisor = await supervisorPid(state.folder);
    kill(supervisor);
    const all = [...processes.map((entry) => entry.pid), ...inside];
    await waitFor("the end of all", () => all.every((pid) => !existsSync(`/proc/${pid}`)), 10_000);
    const mounts = await readFile("/proc/self/mounts", "utf8");
    expect(mounts).not.toContain(state.folder);
  });
});

describe("what goes wrong is said", () => {
  it("names the port that is taken and what to do", async () => {
    const cluster = await openCluster("faults-port");
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(cluster.ports.redis, "127.0.0.1", resolve));
    const result = await cli("up", "--name", "faults-port");
    server.close();
    expect(result.code).toBe(1);
    expect(result.tail.join("\n")).toMatch(
      new RegExp(`port ${cluster.ports.redis} \\(redis .*is in use.*reset`),
    );
  });

  it("names the path that cannot be written and what to do", async () => {
    const folder = await mkdtemp(join(tmpdir(), "baton-state-"));
    await writeFile(join(folder, "file"), "");
    const result = await exec(process.execPath, ["clusters/local/cli.ts", "up"], {
      cwd: root,
      env: { BATON_STATE: join(folder, "file", "below") },
    });
    await rm(folder, { recursive: true });
    expect(result.code).toBe(1);
    expect(result.tail.join("\n")).toMatch(/PATH_NOT_WRITABLE.*cannot write to .*BATON_STATE/);
  });

  it("names the build tool that is missing and what to do", async () => {
    const cache = await mkdtemp(join(tmpdir(), "baton-cache-"));
    const result = await exec(process.execPath, ["clusters/local/toolchain/cli.ts"], {
      cwd: root,
      env: { BATON_CACHE: cache, PATH: "/usr/bin:/bin", KAFKA_LIBS: root, KUBEBUILDER_ASSETS: "" },
    });
    await rm(cache, { recursive: true });
    expect(result.code).toBe(1);
    expect(result.tail.join("\n")).toMatch(/TOOL_MISSING: go is not on the PATH: install Go/);
  });

  it("refuses a name that is no name", async () => {
    const result = await cli("up", "--name", "../escape");
    expect([result.code, result.tail.join("\n")]).toEqual([1, expect.stringMatching(/lower-case letters/)]);
  });
});
