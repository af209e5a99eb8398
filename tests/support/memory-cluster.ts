import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { Api, KubeObject, ListOptions, Page, Query, Resource } from "#operators/controller-kit/api.ts";
import { ApiError } from "#operators/controller-kit/errors.ts";

// An API server in memory, held to the same conformance suite as the real one. Not in it: schemas and their defaults,
// admission, finalizers, lists that are merged by key, and who owns a field beyond "whoever applied it last".

type Json = Record<string, unknown>;
type Meta = {
  name: string;
  namespace?: string;
  uid: string;
  resourceVersion: string;
  generation: number;
  creationTimestamp: string;
  labels?: Record<string, string>;
  ownerReferences?: readonly { readonly uid: string }[];
};
export interface Stored extends Json {
  metadata: Meta & Json;
}

interface Change {
  readonly version: number;
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly plural: string;
  readonly object: Stored;
}

/** Changes that watches can still be told of. */
const KEPT = 5_000;
const SUBRESOURCE = new Set(["modeldeployments", "deployments", "pods"]);
/** Owners' deletion is followed by what they own. */
const COLLECT_MS = 50;

export class MemoryCluster {
  readonly #objects = new Map<string, Stored>();
  /** What each manager has applied, by object: it takes away what it leaves out the next time. */
  readonly #applied = new Map<string, Json>();
  readonly #listeners = new Set<() => void>();
  readonly #pages = new Map<string, { readonly rest: readonly Stored[]; readonly version: string }>();
  #changes: Change[] = [];
  #version = 1;

  /** The API as a field manager sees it. */
  api(manager: string): Api {
    return {
      get: async (resource, namespace, name) => this.#found(resource, namespace, name) as never,
      list: async <T extends KubeObject>(resource: Resource, options: ListOptions = {}) =>
        this.#list(resource, options) as unknown as Page<T>,
      listAll: async (resource, options = {}) => this.#all(resource, options) as never,
      create: async (resource, object) => this.#create(resource, object as unknown as Json) as never,
      replace: async (resource, object) => this.#replace(resource, object as unknown as Json) as never,
      apply: async (resource, object, subresource) =>
        this.#apply(manager, resource, object as unknown as Json, subresource) as never,
      merge: async (resource, namespace, name, patch) =>
        this.#merge(resource, namespace, name, patch as Json) as never,
      delete: async (resource, namespace, name, uid) => this.#delete(resource, namespace, name, uid),
      watch: (resource, namespace, query, _silenceMs, signal) =>
        this.#watch(resource, namespace, query, signal),
    };
  }

  #found({ plural }: Resource, namespace: string | undefined, name: string): Stored {
    const found = this.#objects.get(keyOf(plural, namespace, name));
    if (found === undefined) throw new ApiError("NotFound", 404, `${plural} "${name}" not found`);
    return structuredClone(found);
  }

  #all({ plural }: Resource, { namespace, labelSelector }: ListOptions): Stored[] {
    return [...this.#objects]
      .filter(
        ([key, { metadata }]) =>
          key.startsWith(`${plural} `) &&
          (namespace === undefined || metadata.namespace === namespace) &&
          selects(labelSelector, metadata.labels),
      )
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([, object]) => structuredClone(object));
  }

  #list(resource: Resource, options: ListOptions): Page<never> {
    const { limit, continue: from } = options;
    const begun = from === undefined ? undefined : this.#pages.get(from);
    const rest = begun?.rest ?? this.#all(resource, options);
    const version = begun?.version ?? String(this.#version);
    const items = limit === undefined ? rest : rest.slice(0, limit);
    const next = items.length < rest.length ? randomUUID() : undefined;
    if (next !== undefined) this.#pages.set(next, { rest: rest.slice(items.length), version });
    return { items: items as never, resourceVersion: version, next };
  }

  #create(resource: Resource, { status, ...object }: Json): Stored {
    const { plural } = resource;
    const metadata = object["metadata"] as Meta;
    const key = keyOf(plural, metadata.namespace, metadata.name);
    if (this.#objects.has(key))
      throw new ApiError("AlreadyExists", 409, `${plural} "${metadata.name}" already exists`);
    const made = {
      ...typeOf(resource),
      ...structuredClone(object),
      ...(SUBRESOURCE.has(plural) || status === undefined ? {} : { status }),
      metadata: {
        ...structuredClone(metadata),
        uid: randomUUID(),
        generation: 1,
        resourceVersion: "",
        creationTimestamp: new Date().toISOString(),
      },
    } as Stored;
    return this.#store(plural, key, made, "ADDED");
  }

  #replace(resource: Resource, object: Json): Stored {
    const { name, namespace, resourceVersion } = object["metadata"] as Meta;
    const known = this.#found(resource, namespace, name);
    if (resourceVersion !== undefined && resourceVersion !== known.metadata.resourceVersion)
      throw new ApiError("Conflict", 409, `${resource.plural} "${name}": the object has been modified`);
    const { status: _, ...given } = structuredClone(object);
    return this.#write(resource, known, {
      ...typeOf(resource),
      ...given,
      ...(known["status"] === undefined ? {} : { status: known["status"] }),
    });
  }

  #apply(manager: string, resource: Resource, given: Json, subresource?: string): Stored {
    const { plural } = resource;
    const { name, namespace } = given["metadata"] as Meta;
    const key = keyOf(plural, namespace, name);
    const { status, spec, metadata, ...others } = JSON.parse(JSON.stringify(given)) as Json;
    const mine: Json =
      subresource === "status"
        ? { status }
        : { ...others, metadata, ...(spec === undefined ? {} : { spec }) };
    if (!SUBRESOURCE.has(plural) && status !== undefined) mine["status"] = status;
    const owner = `${manager} ${subresource ?? ""} ${key}`;
    const before = this.#applied.get(owner) ?? {};
    if (!this.#objects.has(key)) {
      if (subresource !== undefined) throw new ApiError("NotFound", 404, `${plural} "${name}" not found`);
      this.#applied.set(owner, mine);
      return this.#create(resource, mine);
    }
    this.#applied.set(owner, mine);
    const known = this.#found(resource, namespace, name);
    return this.#write(resource, known, overlay(without(known, before, mine), mine) as Json);
  }

  #merge(resource: Resource, namespace: string | undefined, name: string, patch: Json): Stored {
    const known = this.#found(resource, namespace, name);
    const merged = mergePatch(known, JSON.parse(JSON.stringify(patch)) as Json) as Json;
    const status = SUBRESOURCE.has(resource.plural) ? known["status"] : merged["status"];
    const { status: _, ...rest } = merged;
    return this.#write(resource, known, status === undefined ? rest : { ...rest, status });
  }

  /** All objects of a resource as they are now. */
  read(resource: Resource): readonly Stored[] {
    return this.#all(resource, {});
  }

  /** Sets the status of something, as its controller does. */
  setStatus(resource: Resource, namespace: string, name: string, status: Json): void {
    const known = this.#found(resource, namespace, name);
    this.#write(resource, known, { ...known, status: structuredClone(status) });
  }

  #delete({ plural }: Resource, namespace: string | undefined, name: string, uid?: string): void {
    const key = keyOf(plural, namespace, name);
    const known = this.#objects.get(key);
    if (known === undefined || (uid !== undefined && uid !== known.metadata.uid)) return;
    this.#objects.delete(key);
    this.#tell("DELETED", plural, known);
    setTimeout(() => this.#collect(known.metadata.uid), COLLECT_MS);
  }

  #collect(owner: string): void {
    for (const [key, { metadata }] of this.#objects) {
      if (metadata.ownerReferences?.some(({ uid }) => uid === owner) !== true) continue;
      const [plural = ""] = key.split(" ");
      this.#delete({ group: "", version: "", kind: "", plural }, metadata.namespace, metadata.name);
    }
  }

  /** Keeps what changes an object; what changes nothing is no change. */
  #write({ plural }: Resource, known: Stored, next: Json): Stored {
    const { uid, resourceVersion, generation, creationTimestamp } = known.metadata;
    const fixed = { uid, resourceVersion, generation, creationTimestamp };
    const object = { ...next, metadata: { ...(next["metadata"] as Json), ...fixed } } as Stored;
    if (isDeepStrictEqual(object, known)) return known;
    // A Deployment's annotations count as well, for they are copied to its ReplicaSets.
    const counted = (of: Stored) => [
      of["spec"],
      plural === "deployments" ? of.metadata.annotations : undefined,
    ];
    if (!isDeepStrictEqual(counted(object), counted(known))) object.metadata.generation += 1;
    return this.#store(
      plural,
      keyOf(plural, object.metadata.namespace, object.metadata.name),
      object,
      "MODIFIED",
    );
  }

  #store(plural: string, key: string, object: Stored, type: "ADDED" | "MODIFIED"): Stored {
    this.#objects.set(key, object);
    this.#tell(type, plural, object);
    return structuredClone(object);
  }

  #tell(type: Change["type"], plural: string, object: Stored): void {
    this.#version += 1;
    object.metadata.resourceVersion = String(this.#version);
    this.#changes.push({ version: this.#version, type, plural, object: structuredClone(object) });
    this.#changes = this.#changes.slice(-KEPT);
    for (const listener of this.#listeners) listener();
  }

  async *#watch(
    { plural }: Resource,
    namespace: string | undefined,
    query: Query,
    signal: AbortSignal,
  ): AsyncGenerator<string> {
    let seen = Number(query["resourceVersion"] ?? this.#version);
    const selector = query["labelSelector"] === undefined ? undefined : String(query["labelSelector"]);
    while (!signal.aborted) {
      const news = this.#changes.filter(({ version }) => version > seen);
      for (const { version, type, plural: of, object } of news) {
        seen = version;
        if (of !== plural || (namespace !== undefined && object.metadata.namespace !== namespace)) continue;
        if (selects(selector, object.metadata.labels)) yield JSON.stringify({ type, object });
      }
      if (news.length > 0) continue;
      await new Promise<void>((resolve) => {
        const done = () => {
          this.#listeners.delete(done);
          signal.removeEventListener("abort", done);
          resolve();
        };
        this.#listeners.add(done);
        signal.addEventListener("abort", done);
      });
    }
    throw new ApiError("Transient", 0, "aborted");
  }
}

function keyOf(plural: string, namespace: string | undefined, name: string): string {
  return `${plural} ${namespace ?? ""}/${name}`;
}

function typeOf({ group, version, kind }: Resource): Json {
  return { apiVersion: group === "" ? version : `${group}/${version}`, kind };
}

/** `a` or `a=b`, several by commas. */
function selects(selector: string | undefined, labels: Readonly<Record<string, string>> = {}): boolean {
  return (selector ?? "")
    .split(",")
    .filter((part) => part !== "")
    .every((part) => {
      const [key = "", value] = part.split("=");
      return value === undefined ? key in labels : labels[key] === value;
    });
}

const isMap = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** RFC 7386. */
function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isMap(patch)) return patch;
  const result: Json = isMap(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}

/** A value with what is given over it; lists are whole. */
function overlay(value: unknown, given: unknown): unknown {
  if (!isMap(value) || !isMap(given)) return given;
  const result: Json = { ...value };
  for (const [key, part] of Object.entries(given)) result[key] = overlay(result[key], part);
  return result;
}

/** A value without what was given before and is not any more. */
function without(value: Json, before: Json, now: Json): Json {
  const result: Json = { ...value };
  for (const [key, part] of Object.entries(before)) {
    const [inner, next] = [result[key], now[key]];
    if (!(key in now)) delete result[key];
    else if (isMap(part) && isMap(inner) && isMap(next)) result[key] = without(inner, part, next);
  }
  return result;
}
