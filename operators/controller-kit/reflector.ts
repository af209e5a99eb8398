import { setTimeout as sleep } from "node:timers/promises";
import type { Api, KubeObject, Resource } from "./api.ts";
import { backoffMs } from "./backoff.ts";
import { ApiError } from "./errors.ts";

// A copy of a resource's objects that follows the API server: a list in pages, then a watch from there, for ever.

export interface ReflectorOptions<T extends KubeObject> {
  readonly api: Pick<Api, "list" | "watch">;
  readonly resource: Resource;
  /** Only what is in it; everything when absent. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string;
  /** Called with what is kept of an object that is new, changed or gone, and with what was known of it. */
  readonly onChange: (object: T, change: "added" | "modified" | "deleted", before: T | undefined) => void;
  /** Under what an object is found; its namespace and name when absent. */
  readonly keyOf?: (object: T) => string;
  /** The part of an object that is worth its memory; all of it when absent. */
  readonly part?: (object: T) => T;
  readonly onError?: (error: ApiError) => void;
  /** Counts what a list showed that no watch had told. */
  readonly onMissed?: (count: number) => void;
  readonly pageSize?: number;
  /** A watch is ended and begun anew after this, or up to twice as long. */
  readonly watchSeconds?: number;
  /** A watch that is silent for so long is dead; bookmarks come each minute. */
  readonly silenceMs?: number;
  readonly random?: () => number;
}

interface WatchEvent<T> {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: T & { readonly code?: number; readonly message?: string };
}

const MAX_GONE = 1_000;
const BACKOFF = { baseMs: 200, maxMs: 30_000 };

export class Reflector<T extends KubeObject> {
  readonly #options: ReflectorOptions<T>;
  readonly #stop = new AbortController();
  /** By uid: an object that was deleted and made again is another one. */
  readonly #objects = new Map<string, T>();
  /** By key, then by uid. */
  readonly #index = new Map<string, Map<string, T>>();
  /** The latest that are gone, by uid: what was written to them may be told of later. */
  readonly #gone = new Set<string>();
  #resourceVersion: string | undefined;
  #progress = 0;
  #synced: Promise<void>;
  #resolveSynced: () => void = () => {};
  #loop: Promise<void> | undefined;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.#synced = new Promise((resolve) => {
      this.#resolveSynced = resolve;
    });
  }

  /** Begins; resolves when every object has been listed once. */
  start(): Promise<void> {
    this.#loop ??= this.#run();
    return this.#synced;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  /** Milliseconds since 1970 of the last sign of life of the API server; 0 before the first. */
  lastProgress(): number {
    return this.#progress;
  }

  objects(): IterableIterator<T> {
    return this.#objects.values();
  }

  /** The objects with a key. */
  of(key: string): readonly T[] {
    return [...(this.#index.get(key)?.values() ?? [])];
  }

  /** Takes over what a write of one's own has come to, before the watch tells of it. */
  put(object: T): void {
    const uid = uidOf(object);
    const known = this.#objects.get(uid);
    if (this.#gone.has(uid) || (known !== undefined && !isNewer(object, known))) return;
    this.#set(uid, object);
  }

  #set(uid: string, object: T): T {
    const { part = (whole: T) => whole } = this.#options;
    const known = this.#objects.get(uid);
    if (known !== undefined) this.#unset(uid, known);
    const kept = part(object);
    this.#objects.set(uid, kept);
    const key = this.#keyOf(kept);
    const same = this.#index.get(key);
    if (same === undefined) this.#index.set(key, new Map([[uid, kept]]));
    else same.set(uid, kept);
    return kept;
  }

  #unset(uid: string, known: T): void {
    this.#objects.delete(uid);
    const key = this.#keyOf(known);
    const same = this.#index.get(key);
    same?.delete(uid);
    if (same?.size === 0) this.#index.delete(key);
  }

  #keyOf(object: T): string {
    const { keyOf = ({ metadata }: T) => `${metadata.namespace ?? ""}/${metadata.name}` } = this.#options;
    return keyOf(object);
  }

  async #run(): Promise<void> {
    const { random = Math.random } = this.#options;
    for (let failures = 0; !this.#stop.signal.aborted; ) {
      const before = this.#progress;
      try {
        if (this.#resourceVersion === undefined) await this.#list();
        await this.#watch();
        failures = 0;
      } catch (cause) {
        if (this.#stop.signal.aborted) return;
        const error = cause instanceof ApiError ? cause : new ApiError("Other", 0, String(cause), { cause });
        // What we know is too old to go on from, or may be wrong: begin again with a list.
        if (error.kind !== "Transient") this.#resourceVersion = undefined;
        if (this.#progress > before) failures = 0;
        this.#options.onError?.(error);
        const wait =
          error.kind === "Gone" && failures === 0
            ? 0
            : backoffMs(failures, BACKOFF, random(), error.retryAfterMs);
        failures += 1;
        await sleep(wait, undefined, { signal: this.#stop.signal }).catch(() => {});
      }
    }
  }

  async #list(): Promise<void> {
    const { api, resource, namespace, labelSelector, pageSize = 500 } = this.#options;
    const listed = new Map<string, T>();
    let version = "";
    let from: string | undefined;
    do {
      const page = await api.list<T>(resource, {
        ...(namespace === undefined ? {} : { namespace }),
        limit: pageSize,
        ...(labelSelector === undefined ? {} : { labelSelector }),
        ...(from === undefined ? {} : { continue: from }),
      });
      for (const object of page.items) listed.set(uidOf(object), object);
      version = page.resourceVersion;
      from = page.next;
      this.#progress = Date.now();
    } while (from !== undefined);
    const first = this.#objects.size === 0 && this.#resourceVersion === undefined;
    let missed = 0;
    for (const [uid, object] of listed) {
      const known = this.#objects.get(uid);
      if (known !== undefined && !isNewer(object, known)) continue;
      missed += 1;
      const kept = this.#set(uid, object);
      this.#options.onChange(kept, known === undefined ? "added" : "modified", known);
    }
    for (const [uid, object] of this.#objects) {
      // What was made while the list was read is not in it: its version is later.
      if (listed.has(uid) || isLater(object, version)) continue;
      missed += 1;
      this.#remove(uid, object);
    }
    this.#resourceVersion = version;
    if (!first && missed > 0) this.#options.onMissed?.(missed);
    this.#resolveSynced();
  }

  async #watch(): Promise<void> {
    const {
      api,
      resource,
      namespace,
      labelSelector,
      watchSeconds = 240,
      silenceMs = 90_000,
      random = Math.random,
    } = this.#options;
    const query = {
      resourceVersion: this.#resourceVersion,
      allowWatchBookmarks: true,
      labelSelector,
      // Not all at once: many watches that begin together would end together.
      timeoutSeconds: Math.ceil(watchSeconds * (1 + random())),
    };
    for await (const line of api.watch(resource, namespace, query, silenceMs, this.#stop.signal)) {
      this.#progress = Date.now();
      this.#apply(parse<T>(line));
    }
    // The server has ended it, as it was asked to.
    this.#progress = Date.now();
  }

  #apply({ type, object }: WatchEvent<T>): void {
    if (type === "ERROR") {
      const kind = object.code === 410 ? "Gone" : "Transient";
      throw new ApiError(kind, object.code ?? 0, object.message ?? "the watch reports an error");
    }
    const version = object.metadata.resourceVersion;
    if (version !== undefined) this.#resourceVersion = version;
    if (type === "BOOKMARK") return;
    const uid = uidOf(object);
    const known = this.#objects.get(uid);
    if (type === "DELETED") {
      if (known !== undefined) this.#remove(uid, known);
      return;
    }
    // Only forward: what comes late must not undo what is known.
    if (known !== undefined && !isNewer(object, known)) return;
    // One that no longer had the label is told of as gone, and comes back.
    this.#gone.delete(uid);
    const kept = this.#set(uid, object);
    this.#options.onChange(kept, known === undefined ? "added" : "modified", known);
  }

  #remove(uid: string, known: T): void {
    this.#unset(uid, known);
    this.#gone.add(uid);
    const [oldest] = this.#gone;
    if (this.#gone.size > MAX_GONE && oldest !== undefined) this.#gone.delete(oldest);
    this.#options.onChange(known, "deleted", known);
  }
}

function parse<T>(line: string): WatchEvent<T> {
  try {
    return JSON.parse(line) as WatchEvent<T>;
  } catch (cause) {
    throw new ApiError("Transient", 0, "a line of a watch is no JSON", { cause });
  }
}

function uidOf({ metadata }: KubeObject): string {
  return metadata.uid ?? `${metadata.namespace ?? ""}/${metadata.name}`;
}

/** Resource versions of one kind are numbers that rise (KEP-5504); where they are none, what comes last counts. */
function isNewer(a: KubeObject, b: KubeObject): boolean {
  const [x, y] = [a.metadata.resourceVersion ?? "", b.metadata.resourceVersion ?? ""];
  return areNumbers(x, y) ? BigInt(x) > BigInt(y) : x !== y;
}

/** Whether an object is younger than a list. */
function isLater({ metadata: { resourceVersion = "" } }: KubeObject, list: string): boolean {
  return areNumbers(resourceVersion, list) && BigInt(resourceVersion) > BigInt(list);
}

function areNumbers(...versions: readonly string[]): boolean {
  return versions.every((version) => /^[0-9]+$/.test(version));
}
