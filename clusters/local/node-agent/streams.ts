import { spawn } from "node:child_process";
import type { IncomingMessage } from "node:http";
import type { Duplex, Writable } from "node:stream";
import { tied } from "../supervisor/supervise.ts";
import { type ContainerSpec, enterCommand } from "./helper.ts";

/** What an upgraded request is for. */
export type StreamRequest =
  | {
      readonly kind: "exec";
      readonly init: number;
      readonly spec: ContainerSpec;
      readonly args: readonly string[];
    }
  | { readonly kind: "port-forward"; readonly address: string };

export interface StreamTools {
  /** Paths of baton-streams and baton-container. */
  readonly streams: string;
  readonly helper: string;
}

/**
 * Has a baton-streams of its own speak with the client until one of them has ended; it ends with the agent. It gets the
 * request as the client has sent it.
 */
export function serveStreams(
  tools: StreamTools,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  what: StreamRequest,
): void {
  const [command, args] = tied(tools.streams, []);
  const child = spawn(command, args, { stdio: ["ignore", "inherit", "inherit", "pipe", "pipe"], env: {} });
  const connection = child.stdio[3] as Duplex;
  const message = child.stdio[4] as Writable;
  const over = () => {
    socket.destroy();
    connection.destroy();
  };
  for (const end of [socket, connection, message]) end.on("error", over);
  child.once("error", over);
  // What it has written last is still to be read.
  child.once("exit", () => message.destroy());
  message.end(JSON.stringify(described(tools, what)));
  connection.write(rawRequest(request));
  connection.write(head);
  socket.pipe(connection);
  connection.pipe(socket);
  socket.once("close", () => connection.destroy());
}

function described(tools: StreamTools, what: StreamRequest): object {
  if (what.kind === "port-forward") return what;
  const { mode, env, cwd, process: identity } = what.spec;
  const [command, args] = enterCommand(tools.helper, mode, what.init);
  return {
    kind: what.kind,
    command: [command, ...args],
    spec: { mode, args: what.args, env, cwd, process: identity },
    uid: mode === "namespaces" ? identity.uid : -1,
    gid: mode === "namespaces" ? identity.gid : -1,
  };
}

function rawRequest(request: IncomingMessage): string {
  const lines = [`${request.method} ${request.url} HTTP/1.1`];
  const { rawHeaders } = request;
  for (let index = 0; index + 1 < rawHeaders.length; index += 2)
    lines.push(`${rawHeaders[index]}: ${rawHeaders[index + 1]}`);
  return `${lines.join("\r\n")}\r\n\r\n`;
}
