import { createServer, type Server, type ServerResponse } from "node:http";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { freePort } from "#clusters/local/ports.ts";
import { Crash } from "#tests/support/crash.ts";
import { Fire } from "#tests/support/fire.ts";
import type { Draft } from "#tests/support/operator-bench.ts";

// Fail closed: a release of which nobody can say whether it is good is never promoted, however quickly its steps would
// pass; the deadline takes it back. Prometheus is the real one where it can be brought to do so.

const cluster = inject("cluster");
const vector = (value: string, at = Date.now() / 1_000) =>
  JSON.stringify({
    status: "success",
    data: { resultType: "vector", result: [{ metric: {}, value: [at, value] }] },
  });
const ANSWERS: Readonly<Record<string, (answer: ServerResponse) => void>> = {
  good: (answer) => answer.end(vector("0")),
  "an error with status 200": (answer) =>
    answer.end(JSON.stringify({ status: "error", errorType: "internal", error: "the store is away" })),
  "a page with status 200": (answer) => answer.end("<html>please log in</html>"),
  "an answer of five minutes ago": (answer) => answer.end(vector("0", Date.now() / 1_000 - 300)),
  "status 500": (answer) => answer.writeHead(500).end("broken"),
  "no answer": () => {},
  "half an answer": (answer) => {
    answer.write(vector("0").slice(0, 40));
    answer.socket?.destroy();
  },
};
let server: Server;
let address = "";
beforeAll(async () => {
  server = createServer((request, answer) => {
    const query = new URL(request.url ?? "", "http://localhost").searchParams.get("query") ?? "";
    ANSWERS[query]?.(answer);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const at = server.address();
  address = `http://127.0.0.1:${typeof at === "object" && at !== null ? at.port : 0}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

type Provider = { readonly query: string; readonly address?: string; readonly samplesQuery?: string };

/** A release that is watched so, until it has ended. */
async function release(provider: Provider, metric: Draft = {}): Promise<Fire> {
  const fire = await new Fire(cluster, false).open();
  await fire.bench.template("watched", {
    metrics: [
      {
        name: "m",
        interval: "1s",
        threshold: { max: "0.01" },
        provider: { prometheus: provider },
        ...metric,
      },
    ],
  });
  const spec = (version: string) =>
    fire.bench.plainSpec(version, (draft) => {
      draft["progressDeadlineSeconds"] = 8;
      draft["analysis"] = { templates: [{ name: "watched" }] };
      draft["strategy"] = { canary: { steps: [{ setWeight: 50 }] } };
    });
  await fire.operate(new Crash());
  expect(await fire.bench.create(spec("1.0.0"))).toBeUndefined();
  await fire.stable("1.0.0");
  await fire.bench.update(spec("2.0.0"));
  await fire.until("its end", ({ history, candidate }) => history?.[0]?.version === "2.0.0" && !candidate);
  return fire;
}

async function ends(provider: Provider, metric?: Draft): Promise<string> {
  const fire = await release(provider, metric);
  const [last] = fire.status()?.history ?? [];
  await fire.close();
  return `${last?.completionStatus} ${last?.reason}`;
}

describe.concurrent("nothing is promoted without evidence", { timeout: 120_000 }, () => {
  const LATE = "RolledBack ProgressDeadlineExceeded";

  it("with evidence it is promoted", async () => {
    const both = await Promise.all([ends({ query: "good", address }), ends({ query: "vector(0)" })]);
    expect(both).toEqual(["Promoted StepsDone", "Promoted StepsDone"]);
  });

  it.for(Object.keys(ANSWERS).filter((name) => name !== "good"))("%s", async (query) => {
    expect(await ends({ query, address })).toBe(LATE);
  });

  it("nobody listens", async () => {
    expect(await ends({ query: "x", address: `http://127.0.0.1:${await freePort()}` })).toBe(LATE);
  });

  it.for([
    ["no series", "no_such_metric"],
    ["not a number", "vector(0) / 0"],
    ["two series", 'label_replace(vector(0), "a", "b", "", "") or vector(0)'],
    ["a query that is none", "sum("],
  ])("%s, by the real Prometheus", async ([, query]) => {
    expect(await ends({ query: query ?? "" })).toBe(LATE);
  });

  it("one sample where ten are needed, by the real Prometheus", async () => {
    expect(await ends({ query: "vector(0)", samplesQuery: "vector(1)" }, { minSamples: 10 })).toBe(LATE);
  });

  it("errors that are borne are no evidence either", async () => {
    const many = { consecutiveErrorLimit: 1_000, inconclusiveLimit: 1_000 };
    const both = [ends({ query: "status 500", address }, many), ends({ query: "no_such_metric" }, many)];
    expect(await Promise.all(both)).toEqual([LATE, LATE]);
  });
});
