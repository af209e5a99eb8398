import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { Counter, Registry } from "prom-client";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { waitFor } from "#tests/support/wait.ts";
import { notificationsSchema } from "../api/notifications.ts";
import type { Notice } from "../core/notices.ts";
import { Notifier, readNotifications } from "./notify.ts";

// Against a real HTTP server that answers as it is told to.

interface Got {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

let server: Server;
let url: string;
let folder: string;
let got: Got[];
/** Answers, the first for the first request; 200 after that. */
let answers: { readonly status: number; readonly headers?: Record<string, string>; readonly hang?: true }[];
const open: Notifier[] = [];

beforeEach(async () => {
  got = [];
  answers = [];
  folder = await mkdtemp(join(tmpdir(), "baton-notify-"));
  server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      got.push({ path: request.url ?? "", headers: request.headers, body: Buffer.concat(chunks).toString() });
      const answer = answers.shift() ?? { status: 200 };
      if (answer.hang !== true) response.writeHead(answer.status, answer.headers).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  url = `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`;
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((notifier) => notifier.close(0)));
  server.closeAllConnections();
  server.close();
  await rm(folder, { recursive: true, force: true });
});

const counter = new Counter({
  name: "sent",
  help: "sent",
  labelNames: ["service", "result"],
  registers: [new Registry()],
});
const results = async () =>
  Object.fromEntries((await counter.get()).values.map(({ labels, value }) => [labels.result, value]));

function notifier(services: readonly object[], subscriptions: readonly object[]): Notifier {
  counter.reset();
  const made = new Notifier({
    config: notificationsSchema.parse({ services, subscriptions }),
    log: pino({ level: "silent" }),
    counter,
    backoff: { baseMs: 1, maxMs: 5 },
  });
  open.push(made);
  return made;
}

const notice = (change: Partial<Notice> = {}): Notice => ({
  id: "u1/3",
  namespace: "trading",
  name: "momentum",
  reason: "RolledBack",
  message: 'errors: 0.5 is above "0.01"',
  phase: "Progressing",
  stable: "1.0.0",
  candidate: "2.0.0",
  at: "2026-01-01T00:00:00.000Z",
  ...change,
});
const aborted = [{ triggers: ["on-rollout-aborted"], services: ["desk"] }];

describe("notifications", () => {
  it("reach a Slack-compatible service as text, and a webhook as JSON of its own", async () => {
    const services = [
      { name: "desk", type: "slack", url: `${url}/slack` },
      {
        name: "hook",
        type: "webhook",
        url: `${url}/hook`,
        template: '{"who":"{{name}}","why":"{{message}}"}',
      },
    ];
    notifier(services, [{ triggers: ["on-rollout-aborted"], services: ["desk", "hook"] }]).send(notice());
    await waitFor("both", () => got.length === 2);
    const bodyAt = (path: string) =>
      JSON.parse(got.find((one) => one.path === path)?.body ?? "null") as unknown;
    expect(bodyAt("/slack")).toEqual({ text: '*trading/momentum* RolledBack: errors: 0.5 is above "0.01"' });
    expect(bodyAt("/hook")).toEqual({ who: "momentum", why: 'errors: 0.5 is above "0.01"' });
    expect(got[0]?.headers).toMatchObject({ "idempotency-key": "u1/3", "content-type": "application/json" });
  });

  it("go to who has asked for their like, by trigger and namespace; a notice to the team goes to all", async () => {
    const services = [
      { name: "desk", type: "slack", url: `${url}/desk` },
      { name: "other", type: "slack", url: `${url}/other` },
    ];
    const made = notifier(services, [
      ...aborted,
      { triggers: ["on-rollout-completed"], services: ["other"], namespaces: ["research"] },
    ]);
    made.send(notice());
    made.send(notice({ reason: "Promoted" }));
    made.send(notice({ reason: "Promoted", namespace: "research" }));
    made.send(notice({ reason: "Whatever" }));
    await waitFor("two", () => got.length === 2);
    expect(got.map(({ path }) => path).toSorted()).toEqual(["/desk", "/other"]);
    made.send(notice({ reason: "TeamNotice" }));
    await waitFor("four", () => got.length === 4);
  });

  it("are sent again after 429 and 500 and no answer, in order, and not after 400", async () => {
    answers = [{ status: 429, headers: { "retry-after": "1" } }, { status: 500 }];
    const made = notifier([{ name: "desk", type: "slack", url }], aborted);
    const began = Date.now();
    made.send(notice({ id: "u1/1" }));
    made.send(notice({ id: "u1/2" }));
    await waitFor("four requests", () => got.length === 4, 5_000);
    expect(got.map(({ headers }) => headers["idempotency-key"])).toEqual(["u1/1", "u1/1", "u1/1", "u1/2"]);
    expect(Date.now() - began).toBeGreaterThan(900);
    answers = [{ status: 400 }];
    made.send(notice({ id: "u1/3" }));
    made.send(notice({ id: "u1/4" }));
    await waitFor("the next", () => got.length === 6);
    await waitFor("the counts", async () => (await results())["delivered"] === 3);
    expect(await results()).toEqual({ delivered: 3, failed: 1 });
  });

  it("are given up after as many attempts as were asked for, and dropped when too many wait", async () => {
    answers = Array.from({ length: 50 }, () => ({ status: 503 }));
    const made = notifier([{ name: "desk", type: "slack", url, attempts: 3 }], aborted);
    for (let i = 0; i < 205; i++) made.send(notice({ id: `u1/${i}` }));
    await waitFor("all", async () => {
      const { delivered = 0, failed = 0, dropped = 0 } = await results();
      return delivered + failed + dropped === 205;
    });
    expect(await results()).toEqual({ delivered: 184, failed: 16, dropped: 5 });
  });

  it("hold nobody up at the end", async () => {
    answers = [{ status: 200, hang: true }];
    const made = notifier([{ name: "desk", type: "slack", url }], aborted);
    made.send(notice());
    await waitFor("the request", () => got.length === 1);
    const began = Date.now();
    await made.close(50);
    expect(Date.now() - began).toBeLessThan(2_000);
  });

  it("take a secret address from its file, each time anew", async () => {
    const urlFile = join(folder, "address");
    await writeFile(urlFile, `${url}/first\n`);
    const made = notifier([{ name: "desk", type: "slack", urlFile }], aborted);
    made.send(notice());
    await waitFor("the first", () => got.length === 1);
    await writeFile(urlFile, `${url}/second\n`);
    made.send(notice());
    await waitFor("the second", () => got.length === 2);
    expect(got.map(({ path }) => path)).toEqual(["/first", "/second"]);
  });

  it("are refused with the field's name where their file is wrong", async () => {
    const file = join(folder, "notifications.yaml");
    await writeFile(file, "services: [{name: desk, type: slack}]\nsubscriptions: []\n");
    await expect(readNotifications(file)).rejects.toThrow(
      "services.0.url: say exactly one of url and urlFile",
    );
    await writeFile(file, "services: []\nsubscriptions: [{triggers: [on-rollout-aborted], services: [x]}]\n");
    await expect(readNotifications(file)).rejects.toThrow("subscriptions.0.services: no service is called x");
    await writeFile(file, "services: []\nsubscriptions: [{triggers: [on-moon], services: [x]}]\n");
    await expect(readNotifications(file)).rejects.toThrow("subscriptions.0.triggers.0");
  });
});
