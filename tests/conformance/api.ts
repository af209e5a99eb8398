import { expect, it } from "vitest";
import type { Api, KubeObject, Resource } from "#operators/controller-kit/api.ts";
import type { ApiError } from "#operators/controller-kit/errors.ts";
import { DEPLOYMENTS, type Deployment } from "#operators/model-deployment/adapters/deployment.ts";
import { waitFor } from "#tests/support/wait.ts";

// What an operator counts on in an API server.

const MAPS: Resource = { group: "", version: "v1", plural: "configmaps", kind: "ConfigMap" };
type ConfigMap = KubeObject & { readonly data?: Readonly<Record<string, string>> };
type WithStatus = Deployment & { readonly status?: { readonly observedGeneration?: number } };

export interface Subject {
  /** The API as a field manager sees it. */
  readonly api: (manager: string) => Api;
  readonly namespace: string;
}

export function apiSuite(subject: () => Subject): void {
  const at = (manager = "one") => subject().api(manager);
  const map = (name: string, data?: Record<string, string>, more: object = {}): ConfigMap => ({
    metadata: { name, namespace: subject().namespace, ...more },
    ...(data === undefined ? {} : { data }),
  });
  const get = (name: string) => at().get<ConfigMap>(MAPS, subject().namespace, name);
  const kind = (work: Promise<unknown>) =>
    work.then(
      () => "done",
      (error: ApiError) => error.kind,
    );
  const deployment = (name: string, replicas: number): Deployment => ({
    metadata: { name, namespace: subject().namespace, labels: { own: "yes" } },
    spec: {
      replicas,
      selector: { matchLabels: { own: name } },
      template: {
        metadata: { labels: { own: name } },
        spec: { containers: [{ name: "main", image: "test/none:1" }] },
      } as Deployment["spec"]["template"],
    },
  });

  it("makes an object once, with an identity", async () => {
    const made = await at().create(MAPS, map("once", { a: "1" }));
    expect(made.metadata.uid).toBeTruthy();
    expect(Number(made.metadata.resourceVersion)).toBeGreaterThan(0);
    expect(made).toMatchObject({ apiVersion: "v1", kind: "ConfigMap", data: { a: "1" } });
    expect(await kind(at().create(MAPS, map("once")))).toBe("AlreadyExists");
    expect(await kind(get("never"))).toBe("NotFound");
  });

  it("merges: what is given changes, null takes away, nothing new is no change", async () => {
    const made = await at().create(MAPS, map("merged", { a: "1", b: "2" }));
    const { namespace } = subject();
    const merged = await at().merge<ConfigMap>(MAPS, namespace, "merged", { data: { b: null, c: "3" } });
    expect(merged.data).toEqual({ a: "1", c: "3" });
    expect(Number(merged.metadata.resourceVersion)).toBeGreaterThan(Number(made.metadata.resourceVersion));
    const again = await at().merge<ConfigMap>(MAPS, namespace, "merged", { data: { c: "3" } });
    expect(again.metadata.resourceVersion).toBe(merged.metadata.resourceVersion);
    expect(await kind(at().merge(MAPS, namespace, "never", {}))).toBe("NotFound");
  });

  it("applies: makes what is not there, takes away what is left out, and leaves others' fields", async () => {
    const made = await at().apply(MAPS, map("applied", { a: "1", b: "2" }));
    const again = await at().apply(MAPS, map("applied", { a: "1", b: "2" }));
    expect(again.metadata.resourceVersion).toBe(made.metadata.resourceVersion);
    await at("two").apply(MAPS, map("applied", { c: "3" }));
    const less = await at().apply(MAPS, map("applied", { a: "9" }));
    expect(less.data).toEqual({ a: "9", c: "3" });
    expect(less.metadata.uid).toBe(made.metadata.uid);
  });

  it("keeps a status apart: it counts no generation, and a spec or a Deployment's annotations that change do", async () => {
    const made = await at().create<WithStatus>(DEPLOYMENTS, {
      ...deployment("status", 0),
      status: { observedGeneration: 77 },
    });
    expect(made.metadata.generation).toBe(1);
    expect(made.status?.observedGeneration).not.toBe(77);
    const status = {
      conditions: [{ type: "Mine", status: "True", lastTransitionTime: "2026-01-01T00:00:00Z" }],
    };
    const applied = await at("three").apply(
      DEPLOYMENTS,
      { metadata: { name: "status", namespace: subject().namespace }, status } as unknown as Deployment,
      "status",
    );
    expect(applied.metadata.generation).toBe(1);
    expect(applied.spec.replicas).toBe(0);
    expect(applied.status?.conditions?.map(({ type }) => type)).toContain("Mine");
    const { namespace } = subject();
    const changed = await at().merge<Deployment>(DEPLOYMENTS, namespace, "status", {
      spec: { minReadySeconds: 5 },
      status: { conditions: [] },
    });
    expect(changed.metadata.generation).toBe(2);
    expect(changed.status?.conditions?.map(({ type }) => type)).toContain("Mine");
    const metadata = { annotations: { "example.com/seen": "1" } };
    const noted = await at().merge<Deployment>(DEPLOYMENTS, namespace, "status", { metadata });
    expect(noted.metadata.generation).toBe(3);
    const missing = { metadata: { name: "never", namespace }, status } as unknown as Deployment;
    expect(await kind(at().apply(DEPLOYMENTS, missing, "status"))).toBe("NotFound");
  });

  it("replaces only what has not changed since it was read", async () => {
    const made = await at().create(MAPS, map("replaced", { a: "1" }));
    const next = await at().replace(MAPS, { ...made, data: { a: "2" } });
    expect(next.data).toEqual({ a: "2" });
    expect(await kind(at().replace(MAPS, { ...made, data: { a: "3" } }))).toBe("Conflict");
  });

  it("deletes the object that is meant; one that is gone is no error", async () => {
    await at().create(MAPS, map("deleted"));
    const { namespace } = subject();
    await at().delete(MAPS, namespace, "deleted", "5d9c3d4e-0000-0000-0000-000000000000");
    expect(await kind(get("deleted"))).toBe("done");
    await at().delete(MAPS, namespace, "deleted");
    expect(await kind(get("deleted"))).toBe("NotFound");
    await at().delete(MAPS, namespace, "deleted");
  });

  it("deletes by and by what belongs to what is gone", async () => {
    const { uid = "" } = (await at().create(MAPS, map("owner"))).metadata;
    const ownerReferences = [{ apiVersion: "v1", kind: "ConfigMap", name: "owner", uid }];
    await at().create(MAPS, map("owned", {}, { ownerReferences }));
    await at().delete(MAPS, subject().namespace, "owner");
    // A cluster that has just begun collects nothing for a while.
    await waitFor("it to go", async () => (await kind(get("owned"))) === "NotFound", 55_000);
  });

  it("lists in pages, by label, all of one moment", async () => {
    const { namespace } = subject();
    for (let i = 0; i < 5; i++)
      await at().create(MAPS, map(`listed-${i}`, {}, { labels: { listed: i < 4 ? "yes" : "no" } }));
    const options = { namespace, labelSelector: "listed=yes", limit: 3 };
    const first = await at().list(MAPS, options);
    await at().delete(MAPS, namespace, "listed-3");
    const second = await at().list(MAPS, { ...options, continue: first.next ?? "" });
    const names = [...first.items, ...second.items].map(({ metadata }) => metadata.name);
    expect(names).toEqual(["listed-0", "listed-1", "listed-2", "listed-3"]);
    expect(second.next).toBeUndefined();
    const all = await at().listAll(MAPS, { namespace, labelSelector: "listed" });
    expect(all.map(({ metadata }) => metadata.name)).toEqual([
      "listed-0",
      "listed-1",
      "listed-2",
      "listed-4",
    ]);
  });

  it("tells a watch of every change since a list, in order, with what it has come to", async () => {
    const { namespace } = subject();
    const labels = { watched: "yes" };
    await at().create(MAPS, map("before", {}, { labels }));
    const { resourceVersion } = await at().list(MAPS, { namespace });
    await at().create(MAPS, map("after", { a: "1" }, { labels }));
    await at().merge(MAPS, namespace, "after", { data: { a: "2" } });
    const stop = new AbortController();
    const seen: string[] = [];
    const versions: number[] = [];
    const watching = (async () => {
      const query = { resourceVersion, labelSelector: "watched", allowWatchBookmarks: true };
      for await (const line of at().watch(MAPS, namespace, query, 60_000, stop.signal)) {
        const { type, object } = JSON.parse(line) as { type: string; object: ConfigMap };
        if (type === "BOOKMARK") continue;
        seen.push(`${type} ${object.metadata.name} ${object.data?.["a"] ?? ""}`.trim());
        versions.push(Number(object.metadata.resourceVersion));
      }
    })().catch(() => {});
    await at().create(MAPS, map("another", { a: "1" }));
    await at().merge(MAPS, namespace, "after", { data: { a: "3" } });
    await at().merge(MAPS, namespace, "after", { data: { a: "3" } });
    await at().delete(MAPS, namespace, "before");
    await waitFor("the events", () => seen.length >= 4);
    stop.abort();
    await watching;
    expect(seen).toEqual(["ADDED after 1", "MODIFIED after 2", "MODIFIED after 3", "DELETED before"]);
    expect(versions).toEqual(versions.toSorted((a, b) => a - b));
  });
}
