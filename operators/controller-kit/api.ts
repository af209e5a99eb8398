import { request as httpRequest, type IncomingMessage } from "node:http";
import { Agent, request as httpsRequest, type RequestOptions } from "node:https";
import type { KubeConfig } from "@kubernetes/client-node";
import { ApiError, kindOf, retryAfter } from "./errors.ts";

// Requests to the API server: what the client library does with types, without losing the fields that it does not know,
// and with streams that end when they should.

export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly finalizers?: readonly string[];
  readonly ownerReferences?: readonly OwnerReference[];
}

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
  readonly blockOwnerDeletion?: boolean;
}

export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: ObjectMeta;
}

/** A resource of the API: where its objects live. */
export interface Resource {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
}

export interface Page<T> {
  readonly items: readonly T[];
  readonly resourceVersion: string;
  readonly next: string | undefined;
}

export interface ListOptions {
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly limit?: number;
  readonly continue?: string;
}

export interface ApiOptions {
  /** Owns what is applied. */
  readonly fieldManager: string;
  /** What stands between us and the API server, where it is not the configuration's. */
  readonly server?: string;
  /** An answer begins within so many milliseconds, or the request has failed. Default 15,000. */
  readonly timeoutMs?: number;
  /** Told of each answer; the code is 0 when there was none. */
  readonly onAnswer?: (method: string, resource: string, code: number) => void;
}

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

/** Answers to one request are no longer than this. */
const MAX_BODY_BYTES = 64 * 1024 * 1024;

export function apiPath({ group, version, plural }: Resource, namespace?: string, name?: string): string {
  const root = group === "" ? `/api/${version}` : `/apis/${group}/${version}`;
  const inside = namespace === undefined ? "" : `/namespaces/${encodeURIComponent(namespace)}`;
  return `${root}${inside}/${plural}${name === undefined ? "" : `/${encodeURIComponent(name)}`}`;
}

/** What an operator asks of the API server. */
export type Api = Pick<
  KubeApi,
  "get" | "list" | "listAll" | "create" | "replace" | "apply" | "merge" | "delete" | "watch"
>;

export class KubeApi {
  readonly #config: KubeConfig;
  readonly #server: URL;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 50, keepAliveMsecs: 10_000 });
  readonly #fieldManager: string;

  readonly #timeoutMs: number;
  readonly #onAnswer: NonNullable<ApiOptions["onAnswer"]>;

  constructor(config: KubeConfig, options: ApiOptions) {
    this.#config = config;
    this.#fieldManager = options.fieldManager;
    this.#server = new URL(options.server ?? config.getCurrentCluster()?.server ?? "");
    this.#timeoutMs = options.timeoutMs ?? 15_000;
    this.#onAnswer = options.onAnswer ?? (() => {});
  }

  async get<T extends KubeObject>(
    resource: Resource,
    namespace: string | undefined,
    name: string,
  ): Promise<T> {
    return (await this.#json("GET", apiPath(resource, namespace, name))) as T;
  }

  /** One page. */
  async list<T extends KubeObject>(resource: Resource, options: ListOptions = {}): Promise<Page<T>> {
    const { namespace, labelSelector, limit, continue: from } = options;
    const answer = (await this.#json("GET", apiPath(resource, namespace), {
      labelSelector,
      limit,
      continue: from,
    })) as { items?: T[]; metadata?: { resourceVersion?: string; continue?: string } };
    return {
      items: answer.items ?? [],
      resourceVersion: answer.metadata?.resourceVersion ?? "",
      next: answer.metadata?.continue || undefined,
    };
  }

  /** Every page. */
  async listAll<T extends KubeObject>(resource: Resource, options: ListOptions = {}): Promise<readonly T[]> {
    const items: T[] = [];
    let from: string | undefined;
    do {
      const page: Page<T> = await this.list<T>(resource, {
        limit: 500,
        ...options,
        ...(from === undefined ? {} : { continue: from }),
      });
      items.push(...page.items);
      from = page.next;
    } while (from !== undefined);
    return items;
  }

  async create<T extends KubeObject>(resource: Resource, object: T): Promise<T> {
    return (await this.#json(
      "POST",
      apiPath(resource, object.metadata.namespace),
      { fieldManager: this.#fieldManager },
      object,
    )) as T;
  }

  /** Replaces an object; rejects with Conflict when it has changed since its resource version. */
  async replace<T extends KubeObject>(resource: Resource, object: T): Promise<T> {
    const { namespace, name } = object.metadata;
    return (await this.#json(
      "PUT",
      apiPath(resource, namespace, name),
      { fieldManager: this.#fieldManager },
      object,
    )) as T;
  }

  /** Server-side apply: what is given is ours, whatever others made of it; the rest of the object stays theirs. */
  async apply<T extends KubeObject>(
    resource: Resource,
    object: T,
    subresource?: "status" | "scale",
  ): Promise<T> {
    const { namespace, name } = object.metadata;
    const { group, version, kind } = resource;
    const path = `${apiPath(resource, namespace, name)}${subresource === undefined ? "" : `/${subresource}`}`;
    const body = { apiVersion: group === "" ? version : `${group}/${version}`, kind, ...object };
    const query = { fieldManager: this.#fieldManager, force: true };
    return (await this.#json("PATCH", path, query, body, "application/apply-patch+yaml")) as T;
  }

  /** Changes fields as in RFC 7386; null takes one away. */
  async merge<T extends KubeObject>(
    resource: Resource,
    namespace: string | undefined,
    name: string,
    patch: unknown,
  ): Promise<T> {
    const query = { fieldManager: this.#fieldManager };
    return (await this.#json(
      "PATCH",
      apiPath(resource, namespace, name),
      query,
      patch,
      "application/merge-patch+json",
    )) as T;
  }

  /** Deletes an object; one that is gone already, or another of the same name, is no error. */
  async delete(resource: Resource, namespace: string | undefined, name: string, uid?: string): Promise<void> {
    const body = {
      propagationPolicy: "Background",
      ...(uid === undefined ? {} : { preconditions: { uid } }),
    };
    try {
      await this.#json("DELETE", apiPath(resource, namespace, name), {}, body);
    } catch (error) {
      if (error instanceof ApiError && (error.kind === "NotFound" || error.kind === "Conflict")) return;
      throw error;
    }
  }

  /** The lines of a watch until the server ends it. Rejects when it breaks, is silent for `silenceMs`, or is aborted. */
  async *watch(
    resource: Resource,
    namespace: string | undefined,
    query: Query,
    silenceMs: number,
    signal: AbortSignal,
  ): AsyncGenerator<string> {
    const response = await this.#send(
      "GET",
      apiPath(resource, namespace),
      { ...query, watch: true },
      undefined,
      undefined,
      signal,
    );
    if ((response.statusCode ?? 0) >= 400) throw await this.#failure(response);
    response.setTimeout(silenceMs, () =>
      response.destroy(new ApiError("Transient", 0, `silent for ${silenceMs} ms`)),
    );
    let rest = "";
    try {
      response.setEncoding("utf8");
      for await (const chunk of response) {
        const lines = (rest + String(chunk)).split("\n");
        rest = lines.pop() ?? "";
        if (rest.length > MAX_BODY_BYTES) throw new ApiError("Other", 0, "a line of a watch has no end");
        for (const line of lines) if (line !== "") yield line;
      }
    } catch (error) {
      throw error instanceof ApiError ? error : new ApiError("Transient", 0, String(error), { cause: error });
    } finally {
      response.destroy();
    }
    if (rest !== "") throw new ApiError("Transient", 0, "a watch ended in the middle of a line");
  }

  close(): void {
    this.#agent.destroy();
  }

  async #json(
    method: string,
    path: string,
    query: Query = {},
    body?: unknown,
    contentType = "application/json",
  ): Promise<unknown> {
    const response = await this.#send(method, path, query, body, contentType);
    if ((response.statusCode ?? 0) >= 400) throw await this.#failure(response);
    const text = await read(response);
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new ApiError("Transient", response.statusCode ?? 0, "half an answer", { cause });
    }
  }

  async #send(
    method: string,
    path: string,
    query: Query,
    body?: unknown,
    contentType?: string,
    signal?: AbortSignal,
  ): Promise<IncomingMessage> {
    const url = new URL(path, this.#server);
    for (const [key, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(key, String(value));
    }
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const secure = url.protocol === "https:";
    const options: RequestOptions = {
      method,
      ...(secure ? { agent: this.#agent } : {}),
      headers: {
        accept: "application/json",
        "user-agent": `baton/${this.#fieldManager}`,
        ...(payload === undefined
          ? {}
          : { "content-type": contentType, "content-length": Buffer.byteLength(payload) }),
      },
      ...(signal === undefined ? {} : { signal }),
    };
    // Certificates and tokens, each time anew: a token of a service account is renewed in its file.
    await this.#config.applyToHTTPSOptions(options);
    if (secure) options.agent = this.#agent;
    else delete options.agent;
    let answered = false;
    const told = (code: number) => this.#onAnswer(method, resourceIn(url.pathname), code);
    return new Promise((resolve, reject) => {
      const request = (secure ? httpsRequest : httpRequest)(url, options, (response) => {
        // A watch that has begun may be silent; it has a limit of its own.
        if (query["watch"] === true) request.setTimeout(0);
        answered = true;
        told(response.statusCode ?? 0);
        resolve(response);
      });
      request.setTimeout(this.#timeoutMs, () =>
        request.destroy(new Error(`no answer in ${this.#timeoutMs} ms`)),
      );
      request.on("error", (cause) => {
        // One that breaks after it was answered was told of already, and nobody waits for it.
        if (!answered) told(0);
        reject(new ApiError("Transient", 0, cause.message, { cause }));
      });
      request.end(payload);
    });
  }

  async #failure(response: IncomingMessage): Promise<ApiError> {
    const status = response.statusCode ?? 0;
    const text = await read(response).catch(() => "");
    let said: { message?: string; reason?: string; details?: { retryAfterSeconds?: number } } = {};
    try {
      said = JSON.parse(text);
    } catch {
      // A proxy's page, perhaps.
    }
    const seconds = said.details?.retryAfterSeconds;
    const asked =
      retryAfter(response.headers["retry-after"], Date.now()) ??
      (seconds === undefined ? undefined : seconds * 1000);
    return new ApiError(kindOf(status, said.reason), status, said.message ?? `HTTP ${status}`, {
      retryAfterMs: asked,
    });
  }
}

/** The resource that a path is about, with its subresource. */
function resourceIn(path: string): string {
  const parts = path.split("/").slice(path.startsWith("/apis/") ? 4 : 3);
  const [plural = "", , sub] = parts[0] === "namespaces" && parts.length > 2 ? parts.slice(2) : parts;
  return sub === undefined ? plural : `${plural}/${sub}`;
}

async function read(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > MAX_BODY_BYTES)
        throw new ApiError("Other", response.statusCode ?? 0, "an answer of more than 64 MiB");
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof ApiError ? error : new ApiError("Transient", 0, String(error), { cause: error });
  }
  return Buffer.concat(chunks).toString("utf8");
}
