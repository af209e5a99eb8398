import { spawn } from "node:child_process";
import { request } from "node:http";
import { request as requestHttps } from "node:https";
import { createConnection } from "node:net";
import { timerMs } from "#runtime/time/sleep.ts";
import type { Container, Probe } from "./types.ts";

/** Runs a probe once. Never rejects; a time-out counts as a failure. */
export async function runProbe(
  probe: Probe,
  container: Container,
  podIp: string,
  env: Readonly<Record<string, string>>,
): Promise<boolean> {
  const timeoutMs = timerMs((probe.timeoutSeconds ?? 1) * 1000);
  if (probe.httpGet !== undefined) {
    const get = probe.httpGet;
    const send = get.scheme?.toUpperCase() === "HTTPS" ? requestHttps : request;
    return new Promise((resolve) => {
      const attempt = send(
        {
          host: get.host ?? podIp,
          port: portNumber(get.port, container),
          path: get.path ?? "/",
          headers: Object.fromEntries((get.httpHeaders ?? []).map((header) => [header.name, header.value])),
          agent: false,
          rejectUnauthorized: false,
          signal: AbortSignal.timeout(timeoutMs),
        },
        (response) => {
          response.resume();
          const code = response.statusCode ?? 0;
          resolve(code >= 200 && code < 400);
        },
      );
      attempt.on("error", () => resolve(false));
      attempt.end();
    });
  }
  if (probe.tcpSocket !== undefined) {
    const { host, port } = probe.tcpSocket;
    return new Promise((resolve) => {
      const socket = createConnection({ host: host ?? podIp, port: portNumber(port, container) });
      const done = (ok: boolean) => {
        clearTimeout(timer);
        socket.destroy();
        resolve(ok);
      };
      const timer = setTimeout(() => done(false), timeoutMs);
      socket.once("connect", () => done(true));
      socket.once("error", () => done(false));
    });
  }
  const [command, ...args] = probe.exec?.command ?? [];
  if (command === undefined) return true;
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: "ignore", env, timeout: timeoutMs, killSignal: "SIGKILL" });
    child.once("error", () => resolve(false));
    child.once("exit", (code) => resolve(code === 0));
  });
}

function portNumber(port: number | string, container: Container): number {
  if (typeof port === "number") return port;
  return container.ports?.find((entry) => entry.name === port)?.containerPort ?? Number(port);
}
