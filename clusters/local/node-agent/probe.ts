import { request } from "node:http";
import { request as requestHttps } from "node:https";
import { createConnection } from "node:net";
import { timerMs } from "#runtime/time/sleep.ts";
import type { Container, Probe } from "./types.ts";

/** Runs a probe once; `succeeds` runs a command in the container. Never rejects; a time-out counts as a failure. */
export async function runProbe(
  probe: Probe,
  container: Container,
  podIp: string,
  succeeds: (args: readonly string[], timeoutMs: number) => Promise<boolean>,
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
  const args = probe.exec?.command ?? [];
  return args.length === 0 || succeeds(args, timeoutMs);
}

function portNumber(port: number | string, container: Container): number {
  if (typeof port === "number") return port;
  return container.ports?.find((entry) => entry.name === port)?.containerPort ?? Number(port);
}
