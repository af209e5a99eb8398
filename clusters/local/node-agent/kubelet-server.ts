import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { messageOf } from "../errors.ts";
import { KUBELET_CLIENT, readCa } from "../pki.ts";
import type { ContainerSpec } from "./helper.ts";
import { logQuerySchema, writeLog } from "./logs.ts";
import { type StreamRequest, type StreamTools, serveStreams } from "./streams.ts";

// The endpoints of a kubelet that the API server calls for kubectl logs, exec and port-forward.

/** A container that runs. */
export interface RunningTarget {
  /** Its process 1, as the machine numbers it; 0 while it is being started. */
  readonly init: number;
  readonly spec: ContainerSpec;
}

/** A Pod that the node has. */
export interface PodTarget {
  readonly podIp: string;
  readonly containers: readonly string[];
  /** Why a container does not run and has not run; undefined where its log can be read. */
  readonly waiting: (container: string) => string | undefined;
  readonly running: (container: string) => RunningTarget | undefined;
  /** Log of its run, or of the one before. */
  readonly logPath: (container: string, previous: boolean) => string;
}

export interface KubeletServerDeps {
  readonly find: (namespace: string, pod: string) => PodTarget | undefined;
  readonly tools: StreamTools;
  readonly log: (line: string) => void;
}

/** Serves the endpoints on 127.0.0.1, for the API server's client certificate only. `pki` is the folder of the certificates. */
export async function startKubeletServer(
  pki: string,
  port: number,
  deps: KubeletServerDeps,
): Promise<Server> {
  const [ca, cert, key] = await Promise.all([
    readCa(pki),
    readFile(join(pki, "kubelet.crt"), "utf8"),
    readFile(join(pki, "kubelet.key"), "utf8"),
  ]);
  const server = createServer({ ca, cert, key, requestCert: true, rejectUnauthorized: true });
  server.on("request", (request: IncomingMessage, response: ServerResponse) => {
    void answer(
      request,
      deps,
    )(response).catch((error: unknown) => {
      deps.log(`${request.url?.split("?")[0]}: ${messageOf(error)}`);
      if (response.headersSent) response.destroy();
      else response.writeHead(500).end(messageOf(error));
    });
  });
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on("error", () => {});
    upgrade(request, socket, head, deps);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  return server;
}

/** An answer other than success, in the words that kubectl shows. */
interface Refusal {
  readonly status: number;
  readonly message: string;
}

const UNREADABLE: Refusal = { status: 400, message: "the request's path cannot be read" };
const NOT_SUPPORTED = "not supported by the local node agent";

/** A certificate of this cluster is not enough: those of others are signed by the same authority. */
function stranger(request: IncomingMessage): boolean {
  return (request.socket as TLSSocket).getPeerCertificate().subject?.CN !== KUBELET_CLIENT;
}

type Answer = (response: ServerResponse) => Promise<void>;

function refuse({ status, message }: Refusal): Answer {
  return async (response) => {
    response.writeHead(status, { "content-type": "text/plain" }).end(message);
  };
}

function answer(request: IncomingMessage, deps: KubeletServerDeps): Answer {
  if (stranger(request)) return refuse({ status: 403, message: "only the API server may ask" });
  const asked = askedFor(request);
  if (asked === undefined) return refuse(UNREADABLE);
  const [, kind, namespace = "", pod = "", container = ""] = asked.path;
  if (kind === "healthz") return async (response) => void response.end("ok");
  if (kind !== "containerLogs") return refuse({ status: 501, message: `${kind}: ${NOT_SUPPORTED}` });
  const target = findContainer(deps, namespace, pod, container);
  if ("status" in target) return refuse(target);
  return containerLogs(target, pod, container, asked.params, request);
}

function findContainer(
  deps: KubeletServerDeps,
  namespace: string,
  pod: string,
  container: string,
): PodTarget | Refusal {
  const target = deps.find(namespace, pod);
  if (target === undefined) return { status: 404, message: `pod ${namespace}/${pod} is not on this node` };
  if (target.containers.includes(container)) return target;
  return { status: 404, message: `container ${container} not found in pod ${pod}` };
}

function containerLogs(
  target: PodTarget,
  pod: string,
  container: string,
  params: URLSearchParams,
  request: IncomingMessage,
): Answer {
  const query = logQuerySchema.safeParse(Object.fromEntries(params));
  if (!query.success) {
    const [issue] = query.error.issues;
    return refuse({ status: 400, message: `${issue?.path.join(".")}: ${issue?.message}` });
  }
  const path = target.logPath(container, query.data.previous);
  if (query.data.previous && !existsSync(path)) {
    const message = `previous terminated container "${container}" in pod "${pod}" not found`;
    return refuse({ status: 400, message });
  }
  const waiting = target.waiting(container);
  if (!query.data.previous && (waiting !== undefined || !existsSync(path))) {
    const message = `container "${container}" in pod "${pod}" is waiting to start: ${waiting ?? "ContainerCreating"}`;
    return refuse({ status: 400, message });
  }
  return async (response) => {
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    request.socket.setNoDelay(true);
    response.writeHead(200, { "content-type": "text/plain" }).flushHeaders();
    const run = target.running(container);
    // Another run of the container is another log.
    const running = () =>
      !query.data.previous && run !== undefined && target.running(container)?.init === run.init;
    await writeLog(
      { path, running },
      query.data,
      (bytes) => written(response, bytes, gone.signal),
      gone.signal,
    );
    response.end();
  };
}

/** Resolves when there is room for more: a client that does not read holds its log up, and no more than that. */
function written(response: ServerResponse, bytes: Buffer, gone: AbortSignal): Promise<void> {
  if (gone.aborted || response.write(bytes)) return Promise.resolve();
  return new Promise((resolve) => {
    response.once("drain", resolve);
    gone.addEventListener("abort", () => resolve(), { once: true });
  });
}

function upgrade(request: IncomingMessage, socket: Duplex, head: Buffer, deps: KubeletServerDeps): void {
  const what = streamRequest(request, deps);
  if (!("status" in what)) {
    serveStreams(deps.tools, request, socket, head, what);
    return;
  }
  // A Status rather than text: the API server takes text with a colon in it for YAML.
  const { status: code, message } = what;
  const body = JSON.stringify({ kind: "Status", apiVersion: "v1", status: "Failure", message, code });
  const headers = `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close`;
  socket.end(`HTTP/1.1 ${code} Refused\r\n${headers}\r\n\r\n${body}`);
}

/** What the API server asks to be connected with. */
function streamRequest(request: IncomingMessage, deps: KubeletServerDeps): StreamRequest | Refusal {
  if (stranger(request)) return { status: 403, message: "only the API server may ask" };
  const asked = askedFor(request);
  if (asked === undefined) return UNREADABLE;
  const [, kind, namespace = "", pod = "", last = "", beyond] = asked.path;
  if (kind === "portForward") {
    const target = deps.find(namespace, pod);
    if (target === undefined) return { status: 404, message: `pod ${namespace}/${pod} is not on this node` };
    return { kind: "port-forward", address: target.podIp };
  }
  if (kind !== "exec") return { status: 501, message: `${kind}: ${NOT_SUPPORTED}` };
  // With a Pod's UID in between, as kubelets have it too.
  const container = beyond ?? last;
  const target = findContainer(deps, namespace, pod, container);
  if ("status" in target) return target;
  const run = target.running(container);
  if (run === undefined || run.init === 0)
    return { status: 404, message: `container not found ("${container}")` };
  return { kind: "exec", ...run, args: asked.params.getAll("command") };
}

interface Asked {
  /** What comes before each slash of the path, decoded; the first is empty. */
  readonly path: readonly string[];
  readonly params: URLSearchParams;
}

/** What a request asks for; undefined where it cannot be read. */
function askedFor(request: IncomingMessage): Asked | undefined {
  try {
    const url = new URL(request.url ?? "/", "https://local");
    return { path: url.pathname.split("/").map(decodeURIComponent), params: url.searchParams };
  } catch {
    return undefined;
  }
}
