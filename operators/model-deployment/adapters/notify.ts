import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { Counter } from "prom-client";
import { parse } from "yaml";
import { backoffMs } from "#operators/controller-kit/backoff.ts";
import { type NotificationService, type Notifications, notificationsSchema } from "../api/notifications.ts";
import { bodyOf, type Notice, receivers } from "../core/notices.ts";

// Notifications leave on a queue of their own: a service that is slow or away holds no release up.

export interface NotifierOptions {
  readonly config: Notifications;
  readonly log: Logger;
  readonly counter?: Counter<"service" | "result">;
  readonly backoff?: { readonly baseMs: number; readonly maxMs: number };
}

/** Notices that wait for one service; more are dropped, and said so. */
const MAX_WAITING = 200;
const TIMEOUT_MS = 5_000;
const BACKOFF = { baseMs: 1_000, maxMs: 60_000 };

/** Reads the file about notifications. Rejects with a sentence for each field that is wrong. */
export async function readNotifications(file: string): Promise<Notifications> {
  const parsed = notificationsSchema.safeParse(parse(await readFile(file, "utf8")));
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
  throw new Error(`${file}: ${problems.join("; ")}`);
}

export class Notifier {
  readonly #options: NotifierOptions;
  readonly #waiting = new Map<string, Notice[]>();
  readonly #running = new Map<string, Promise<void>>();
  readonly #stop = new AbortController();

  constructor(options: NotifierOptions) {
    this.#options = options;
  }

  /** Takes a notice on its way, to each service that has asked for its like. */
  send(notice: Notice): void {
    const { config, log } = this.#options;
    if (this.#stop.signal.aborted) return;
    for (const service of receivers(config, notice)) {
      const waiting = this.#waiting.get(service.name) ?? [];
      this.#waiting.set(service.name, waiting);
      if (waiting.length >= MAX_WAITING) {
        log.warn({ service: service.name, id: notice.id }, "too many notifications wait: one is dropped");
        this.#options.counter?.inc({ service: service.name, result: "dropped" });
        continue;
      }
      waiting.push(notice);
      if (!this.#running.has(service.name)) this.#running.set(service.name, this.#drain(service, waiting));
    }
  }

  /** Waits for what is on its way, at most `ms` milliseconds. */
  async close(ms = 2_000): Promise<void> {
    const all = Promise.all(this.#running.values());
    await Promise.race([all, sleep(ms, undefined, { ref: false })]);
    this.#stop.abort();
    await all;
  }

  async #drain(service: NotificationService, waiting: Notice[]): Promise<void> {
    for (let notice = waiting[0]; notice !== undefined; notice = waiting[0]) {
      const result = await this.#deliver(service, notice);
      this.#options.counter?.inc({ service: service.name, result });
      waiting.shift();
    }
    this.#running.delete(service.name);
  }

  async #deliver(service: NotificationService, notice: Notice): Promise<"delivered" | "failed"> {
    const { log, backoff = BACKOFF } = this.#options;
    for (let attempt = 0; attempt < service.attempts && !this.#stop.signal.aborted; attempt++) {
      try {
        const again = await post(service, notice, this.#stop.signal);
        if (again === undefined) return "delivered";
        const wait = backoffMs(attempt, backoff, Math.random(), again.afterMs);
        log.warn({ service: service.name, id: notice.id, attempt, error: again.error }, "notification");
        await sleep(wait, undefined, { signal: this.#stop.signal }).catch(() => {});
      } catch (error) {
        // Told wrong rather than not heard: sending it again would not help. The address may be a secret.
        log.warn({ service: service.name, id: notice.id, error: (error as Error).message }, "notification");
        return "failed";
      }
    }
    log.warn({ service: service.name, id: notice.id }, "notification given up");
    return "failed";
  }
}

/** undefined when it was taken, else why it is worth another attempt. Rejects when it is not. */
async function post(
  service: NotificationService,
  notice: Notice,
  stop: AbortSignal,
): Promise<{ readonly error: string; readonly afterMs?: number } | undefined> {
  const body = bodyOf(service, notice);
  let response: Response;
  try {
    // Read each time: a secret that is renewed is used from then on.
    const url = service.url ?? (await readFile(service.urlFile ?? "", "utf8")).trim();
    response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": notice.id },
      body,
      redirect: "error",
      signal: AbortSignal.any([stop, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    await response.arrayBuffer();
  } catch (error) {
    const { name } = error as Error;
    return {
      error: name === "TimeoutError" ? `no answer in ${TIMEOUT_MS} ms` : `cannot be reached (${name})`,
    };
  }
  if (response.ok) return undefined;
  if (response.status !== 429 && response.status < 500) throw new Error(`HTTP ${response.status}`);
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  return {
    error: `HTTP ${response.status}`,
    ...(seconds > 0 ? { afterMs: Math.min(seconds, 600) * 1000 } : {}),
  };
}
