import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { get } from "node:https";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { ensureToolchain, toolPath } from "#clusters/local/toolchain/index.ts";
import { isReady, PodBench, stateOf } from "#tests/support/kubernetes.ts";
import { waitFor } from "#tests/support/wait.ts";

// What the API server asks the node agent for: kubectl's logs, exec and port-forward, by the real kubectl.

const cluster = inject("cluster");
const bench = new PodBench(cluster);
const FOREVER = "trap 'exit 0' TERM; while true; do sleep 0.05; done";
let kubectlPath = "";
beforeAll(async () => {
  kubectlPath = toolPath(await ensureToolchain({ progress: () => {} }), "kubectl");
  await bench.open();
});
afterAll(() => bench.close());

interface Result {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function start(args: readonly string[]) {
  const env = { ...process.env, KUBECONFIG: join(cluster.folder, "pki", "admin.kubeconfig") };
  return spawn(kubectlPath, ["-n", bench.namespace, ...args], { env });
}

function kubectl(args: readonly string[], input = ""): Promise<Result> {
  return new Promise((resolve, reject) => {
    const child = start(args);
    let out = "";
    let err = "";
    child.stdout.on("data", (data) => {
      out += String(data);
    });
    child.stderr.on("data", (data) => {
      err += String(data);
    });
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, out, err }));
    child.stdin.end(input);
  });
}

describe("kubectl logs", () => {
  it("prints what was written: all, the last lines, with times, no more than so many bytes, since a time", async () => {
    await bench.shell("writes", `echo one; echo two >&2; printf 'three'; ${FOREVER}`);
    await waitFor("the lines", () => bench.log("writes").includes("two"));
    // The last one has no end yet.
    expect((await kubectl(["logs", "writes"])).out.split("\n").sort()).toEqual(["", "one", "two"]);
    expect((await kubectl(["logs", "writes", "--tail=1"])).out).toMatch(/^(one|two)\n$/);
    expect((await kubectl(["logs", "writes", "--tail=0"])).out).toBe("");
    expect((await kubectl(["logs", "writes", "--timestamps"])).out).toMatch(
      /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (one|two)\n){2}$/,
    );
    expect((await kubectl(["logs", "writes", "--limit-bytes=5"])).out).toHaveLength(5);
    expect((await kubectl(["logs", "writes", "--since-time=2100-01-01T00:00:00Z"])).out).toBe("");
    expect((await kubectl(["logs", "writes", "--since=1h"])).out).toContain("one");
  });

  it("-f goes on until the container has ended, with its last line", async () => {
    const script = "mkfifo -m 666 /tmp/go; echo first; read x < /tmp/go; echo last";
    await bench.shell("ends", script, {}, { restartPolicy: "Never" });
    await waitFor("the first line", () => bench.log("ends").includes("first"));
    const follower = start(["logs", "-f", "ends"]);
    const lines: string[] = [];
    const ended = new Promise((resolve) => follower.once("close", resolve));
    for await (const line of createInterface({ input: follower.stdout })) {
      lines.push(line);
      if (line === "first") void kubectl(["exec", "ends", "--", "sh", "-c", "echo > /tmp/go"]);
    }
    expect([await ended, lines]).toEqual([0, ["first", "last"]]);
    // After the end as before it.
    expect((await kubectl(["logs", "-f", "ends"])).out).toBe("first\nlast\n");
  });

  it("--previous prints the run before, and says when there was none", async () => {
    const script = "echo run; sleep 0.2; exit 3";
    await bench.shell("restarts", script);
    const before = await kubectl(["logs", "restarts", "--previous"]);
    if (before.code !== 0)
      expect(before.err).toMatch(/previous terminated container "main".* not found|waiting to start/);
    await bench.until(
      "restarts",
      "a restart",
      (entry) => (entry.status?.containerStatuses?.[0]?.restartCount ?? 0) >= 1,
    );
    expect((await kubectl(["logs", "restarts", "--previous"])).out).toBe("run\n");
  });

  it("says what keeps a container from having a log", async () => {
    await bench.shell("unknown", FOREVER, { image: "nobody/nothing:1" });
    await bench.until("unknown", "refusal", (entry) => stateOf(entry)?.waiting);
    const { code, err } = await kubectl(["logs", "unknown"]);
    expect([code, err]).toEqual([1, expect.stringContaining("waiting to start: ErrImagePull")]);
  });
});

describe("kubectl exec", () => {
  beforeAll(async () => {
    await bench.shell("lives", FOREVER, { env: [{ name: "COLOR", value: "blue" }] });
    await bench.until("lives", "ready", isReady);
  });

  it("runs in the container: its user, its environment, its processes, its files", async () => {
    const script =
      "id -u; echo $COLOR; hostname; ls /proc | grep -c '^[0-9]'; echo aside >&2; touch $HOME/here";
    const { code, out, err } = await kubectl(["exec", "lives", "--", "sh", "-c", script]);
    const [user, color, host, processes] = out.split("\n");
    expect([code, user, color, host, err]).toEqual([0, "65532", "blue", "lives", "aside\n"]);
    expect(Number(processes)).toBeLessThan(10);
    expect((await kubectl(["exec", "lives", "--", "ls", "-A"])).code).toBe(0);
  });

  it("passes input on and ends with the command's exit code", async () => {
    const { code, out } = await kubectl(["exec", "-i", "lives", "--", "sh", "-c", "cat; exit 7"], "hello");
    expect([code, out]).toEqual([7, "hello"]);
    expect((await kubectl(["exec", "lives", "--", "/no/such"])).code).toBe(127);
    expect((await kubectl(["exec", "lives", "--", "sh", "-c", "kill -TERM $$"])).code).toBe(143);
  });

  it("gives a terminal with -t", async () => {
    // kubectl has none here itself and says so; the container has one all the same.
    const args = [
      "-n",
      bench.namespace,
      "exec",
      "-it",
      "lives",
      "--",
      "sh",
      "-c",
      "test -t 0 && test -t 1 && echo terminal",
    ];
    const quoted = [kubectlPath, ...args].map((word) => `'${word}'`).join(" ");
    const env = { ...process.env, KUBECONFIG: join(cluster.folder, "pki", "admin.kubeconfig") };
    const child = spawn("script", ["-qec", quoted, "/dev/null"], { env });
    let out = "";
    child.stdout.on("data", (data) => {
      out += String(data);
    });
    expect(await new Promise((resolve) => child.once("close", resolve))).toBe(0);
    expect(out).toContain("terminal");
  });

  it("refuses attach with a sentence", async () => {
    const { code, err } = await kubectl(["attach", "lives"]);
    expect([code, err]).toEqual([1, expect.stringContaining("not supported by the local node agent")]);
  });
});

describe("kubectl port-forward", () => {
  it("carries connections to the Pod's address, one after another", async () => {
    const serve = `exec node -e 'require("http").createServer((q,r)=>r.end("path "+q.url)).listen(8080,process.env.IP)'`;
    await bench.shell("serves", serve, {
      env: [{ name: "IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } }],
      readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 },
    });
    await bench.until("serves", "ready", isReady);
    const forward = start(["port-forward", "pod/serves", ":8080"]);
    try {
      let port = "";
      for await (const line of createInterface({ input: forward.stdout })) {
        port = /127\.0\.0\.1:(\d+)/.exec(line)?.[1] ?? "";
        if (port !== "") break;
      }
      for (const path of ["/a", "/b"]) {
        const response = await fetch(`http://127.0.0.1:${port}${path}`);
        expect(await response.text()).toBe(`path ${path}`);
      }
    } finally {
      forward.kill();
    }
  });
});

describe("the endpoints", () => {
  const path = "/containerLogs/baton/none/main";
  const ask = (client: string | undefined) =>
    new Promise<number | string>((resolve) => {
      const pki = (file: string) => readFileSync(join(cluster.folder, "pki", file));
      const identity = client === undefined ? {} : { cert: pki(`${client}.crt`), key: pki(`${client}.key`) };
      const options = {
        host: "127.0.0.1",
        port: cluster.ports.kubelet,
        path,
        ca: pki("ca.crt"),
        agent: false,
      };
      get({ ...options, ...identity }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      }).once("error", () => resolve("no connection"));
    });

  it("answer the API server only: not its administrator, not the node, nobody without a certificate", async () => {
    const answers = await Promise.all(["kubelet-client", "admin", "node-agent", undefined].map(ask));
    expect(answers).toEqual([404, 403, 403, "no connection"]);
  });
});
