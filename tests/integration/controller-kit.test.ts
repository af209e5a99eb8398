import { createServer, type Server } from "node:http";
import { request as secureRequest } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { KubeApi, type KubeObject, type Resource } from "#operators/controller-kit/api.ts";
import type { ApiError } from "#operators/controller-kit/errors.ts";
import { recordEvent } from "#operators/controller-kit/events.ts";
import { LeaderElection } from "#operators/controller-kit/lease.ts";
import { Reflector } from "#operators/controller-kit/reflector.ts";
import { PodBench } from "#tests/support/kubernetes.ts";
import { waitFor } from "#tests/support/wait.ts";

// The kit against the real API server, with a proxy between that does harm.

const MAPS: Resource = { group: "", version: "v1", plural: "configmaps", kind: "ConfigMap" };
type ConfigMap = KubeObject & { readonly data?: Readonly<Record<string, string>> };
const bench = new PodBench(inject("cluster"));

/** What the proxy does to requests that match. */
interface Harm {
  readonly match: (method: string, path: string) => boolean;
  readonly kind: "status" | "half" | "silence" | "mute";
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  left: number;
}

class HarmfulProxy {
  readonly requests: string[] = [];
  readonly harms: Harm[] = [];
  readonly #server: Server;
  /** Answers that run: watches that can be cut. */
  readonly open = new Set<{ destroy(): void }>();

  constructor() {
    this.#server = createServer((incoming, outgoing) => {
      const path = incoming.url ?? "";
      const method = incoming.method ?? "";
      this.requests.push(`${method} ${path}`);
      const harm = this.harms.find((entry) => entry.left > 0 && entry.match(method, path));
      if (harm !== undefined) harm.left -= 1;
      if (harm?.kind === "status") {
        outgoing.writeHead(harm.status ?? 500, { "content-type": "application/json", ...harm.headers });
        outgoing.end(JSON.stringify({ kind: "Status", code: harm.status, message: "made up by the proxy" }));
        return;
      }
      const target = new URL(path, bench.config.getCurrentCluster()?.server);
      const options = { method, headers: { ...incoming.headers, host: target.host } };
      void (async () => {
        await bench.config.applyToHTTPSOptions(options);
        options.headers = { ...options.headers, ...incoming.headers, host: target.host };
        const upstream = secureRequest(target, options, (answer) => {
          outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
          this.open.add(outgoing);
          outgoing.on("close", () => {
            this.open.delete(outgoing);
            answer.destroy();
          });
          if (harm?.kind === "half") {
            answer.once("data", (chunk: Buffer) => {
              outgoing.write(chunk.subarray(0, Math.floor(chunk.length / 2)));
              setTimeout(() => outgoing.destroy(), 50);
            });
          } else if (harm?.kind === "silence") {
            outgoing.flushHeaders();
            answer.resume();
          } else if (harm?.kind === "mute") answer.resume();
          else answer.pipe(outgoing);
        });
        upstream.on("error", () => outgoing.destroy());
        incoming.pipe(upstream);
      })();
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    const address = this.#server.address();
    return `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`;
  }

  cut(): void {
    for (const answer of this.open) answer.destroy();
  }

  close(): void {
    this.cut();
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

let proxy: HarmfulProxy;
let direct: KubeApi;
let throughProxy: KubeApi;
beforeAll(async () => {
  await bench.open();
  proxy = new HarmfulProxy();
  direct = new KubeApi(bench.config, { fieldManager: "test" });
  throughProxy = new KubeApi(bench.config, {
    fieldManager: "test",
    server: await proxy.listen(),
    timeoutMs: 2_000,
  });
});
afterAll(async () => {
  proxy.close();
  direct.close();
  throughProxy.close();
  await bench.close();
});

const map = (name: string, data: Record<string, string>): ConfigMap => ({
  metadata: { name, namespace: bench.namespace, labels: { kit: "yes" } },
  data,
});

describe("requests", () => {
  it("apply, read, merge and delete, and say what went wrong in the API server's words", async () => {
    await direct.apply(MAPS, map("a", { x: "1" }));
    await direct.apply(MAPS, map("a", { y: "2" }));
    // What is no longer applied is taken away.
    expect((await direct.get<ConfigMap>(MAPS, bench.namespace, "a")).data).toEqual({ y: "2" });
    await direct.merge(MAPS, bench.namespace, "a", { data: { z: "3" } });
    const now = await direct.get<ConfigMap>(MAPS, bench.namespace, "a");
    const stale = { ...now, data: { late: "1" }, metadata: { ...now.metadata, resourceVersion: "1" } };
    await expect(direct.replace(MAPS, stale)).rejects.toMatchObject({ kind: "Conflict" });
    await expect(direct.create(MAPS, map("a", {}))).rejects.toMatchObject({ kind: "AlreadyExists" });
    await expect(direct.create(MAPS, map("A b", {}))).rejects.toMatchObject({ kind: "Invalid" });
    await direct.delete(MAPS, bench.namespace, "a", "another-uid");
    await direct.get(MAPS, bench.namespace, "a");
    await direct.delete(MAPS, bench.namespace, "a", now.metadata.uid);
    await direct.delete(MAPS, bench.namespace, "a");
    await expect(direct.get(MAPS, bench.namespace, "a")).rejects.toMatchObject({
      kind: "NotFound",
      status: 404,
    });
  });

  it("hand on what a server in trouble asks for", async () => {
    const match = (method: string) => method === "GET";
    proxy.harms.push({ match, kind: "status", status: 429, headers: { "retry-after": "3" }, left: 1 });
    await expect(throughProxy.get(MAPS, bench.namespace, "x")).rejects.toMatchObject({
      kind: "Transient",
      retryAfterMs: 3_000,
    });
    proxy.harms.push({ match, kind: "half", left: 1 });
    await expect(throughProxy.list(MAPS, {})).rejects.toMatchObject({ kind: "Transient" });
  });
});

describe("a reflector", () => {
  it("follows through pages, cuts, half lines, silence, 410, 401, 429 and 500, and misses nothing", async () => {
    await Promise.all(Array.from({ length: 7 }, (_, i) => direct.apply(MAPS, map(`m${i}`, { v: "0" }))));
    const seen = new Map<string, string>();
    const errors: ApiError[] = [];
    let missed = 0;
    const reflector = new Reflector<ConfigMap>({
      api: throughProxy,
      resource: MAPS,
      labelSelector: "kit=yes",
      pageSize: 3,
      silenceMs: 1_500,
      random: () => 0.01,
      onError: (error) => errors.push(error),
      onMissed: (count) => {
        missed += count;
      },
      onChange: (object, change) => {
        if (change === "deleted") seen.delete(object.metadata.name);
        else seen.set(object.metadata.name, object.data?.["v"] ?? "");
      },
    });
    await reflector.start();
    expect(seen.size).toBe(7);
    expect(proxy.requests.filter((line) => line.includes("limit=3")).length).toBe(3);

    const isWatch = (_: string, path: string) => path.includes("watch=true");
    const isList = (_: string, path: string) => path.includes("limit=3");
    let version = 0;
    const follows = async () => {
      version += 1;
      await direct.apply(MAPS, map("m1", { v: String(version) }));
      await waitFor(`version ${version}`, () => seen.get("m1") === String(version), 10_000);
    };
    await follows();
    for (const harm of [
      { match: isWatch, kind: "half", left: 1 },
      { match: isWatch, kind: "status", status: 500, left: 2 },
      { match: isWatch, kind: "status", status: 429, headers: { "retry-after": "1" }, left: 1 },
      { match: isWatch, kind: "status", status: 401, left: 1 },
      { match: isWatch, kind: "silence", left: 1 },
      { match: isWatch, kind: "mute", left: 1 },
    ] as const) {
      proxy.harms.push({ ...harm });
      proxy.cut();
      await follows();
    }
    // Too old to go on from: what was deleted and made meanwhile shows in the list.
    proxy.harms.push({ match: isWatch, kind: "status", status: 410, left: 1 });
    proxy.harms.push({ match: isList, kind: "status", status: 503, left: 1 });
    proxy.cut();
    await direct.delete(MAPS, bench.namespace, "m6");
    await direct.apply(MAPS, map("m7", { v: "new" }));
    await waitFor("the difference", () => !seen.has("m6") && seen.get("m7") === "new", 10_000);
    expect(missed).toBeGreaterThanOrEqual(1);
    await follows();
    expect(errors.map(({ kind }) => kind)).toEqual(
      expect.arrayContaining(["Transient", "Unauthorized", "Gone"]),
    );
    const said = errors.map(({ message }) => message).join();
    expect(said).toContain("silent for 1500 ms");
    expect(said).toContain("no answer in 2000 ms");
    await reflector.stop();
    expect([...reflector.objects()].length).toBe(7);
  });
});

describe("leader election", () => {
  it("has one leader, whose end lets another begin with a higher epoch: at once when it says so, else by time", async () => {
    const log: string[] = [];
    const candidate = (identity: string, api: KubeApi) =>
      new LeaderElection({
        api,
        namespace: bench.namespace,
        name: "operator",
        identity,
        leaseMs: 3_000,
        renewDeadlineMs: 2_000,
        retryMs: 300,
        onElected: (epoch) => log.push(`${identity} elected ${epoch}`),
        onLost: () => log.push(`${identity} lost`),
      });
    const [a, b, c] = [candidate("a", direct), candidate("b", throughProxy), candidate("c", direct)];
    a.start();
    await waitFor("a", () => a.leading, 5_000);
    b.start();
    await sleep(1_500);
    expect(log).toEqual(["a elected 1"]);
    const asked = Date.now();
    await a.stop();
    await waitFor("b", () => b.leading, 5_000);
    expect(Date.now() - asked).toBeLessThan(3_000);
    c.start();
    // b is cut off from the API server: it stops by its own clock before c begins.
    proxy.harms.push({
      match: (_, path) => path.includes("leases"),
      kind: "status",
      status: 503,
      left: 1_000,
    });
    await waitFor("c", () => c.leading, 10_000);
    expect(log).toEqual(["a elected 1", "a lost", "b elected 2", "b lost", "c elected 3"]);
    proxy.harms.length = 0;
    await Promise.all([b.stop(), c.stop()]);
  });
});

it("an event that is recorded again is the same event", async () => {
  const object = await direct.apply(MAPS, map("subject", {}));
  const at = new Date().toISOString();
  const note = { id: "1", at, type: "Warning", reason: "RolledBack", message: "p99 is 300 ms" } as const;
  for (let i = 0; i < 3; i++) await recordEvent(direct, "test", object, note);
  await recordEvent(direct, "test", object, { ...note, id: "2" });
  const events = (await bench.core.listNamespacedEvent({ namespace: bench.namespace })).items.filter(
    ({ involvedObject }) => involvedObject.name === "subject",
  );
  expect(events.map(({ reason, count }) => [reason, count])).toEqual([
    ["RolledBack", 1],
    ["RolledBack", 1],
  ]);
  expect(new Set(events.map(({ metadata }) => metadata?.managedFields?.length))).toEqual(new Set([1]));
});
