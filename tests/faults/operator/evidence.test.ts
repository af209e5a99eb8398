import { createServer, type Server, type ServerResponse } from "node:http";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { Crash } from "#tests/support/crash.ts";
import { Fire } from "#tests/support/fire.ts";
import { verdictOf } from "#tests/support/measuring.ts";
import type { Draft } from "#tests/support/operator-bench.ts";

// Fail closed: a release of which nobody can say whether it is good is never promoted, however quickly its steps would
// pass; the deadline takes it back. Prometheus is the real one where it can be brought to do so.

const cluster = inject("cluster");
const ANSWERS: Readonly<Record<string, (answer: ServerResponse) => void>> = {
  good: (answer) => {
    const result = [{ metric: {}, value: [Date.now() / 1_000, "0"] }];
    answer.end(JSON.stringify({ status: "success", data: { resultType: "vector", result } }));
  },
  "status 500": (answer) => answer.writeHead(500).end("broken"),
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

  it("without it, it goes back: an error, nothing, and too little of it", async () => {
    const few = { query: "vector(0)", samplesQuery: "vector(1)" };
    const all = [
      ends({ query: "status 500", address }),
      ends({ query: "no_such_metric" }),
      ends(few, { minSamples: 10 }),
    ];
    expect(await Promise.all(all)).toEqual([LATE, LATE, LATE]);
  });

  it("errors that are borne are no evidence either", async () => {
    const many = { consecutiveErrorLimit: 1_000, inconclusiveLimit: 1_000 };
    const both = [ends({ query: "status 500", address }, many), ends({ query: "no_such_metric" }, many)];
    expect(await Promise.all(both)).toEqual([LATE, LATE]);
  });
});

describe("what is no evidence, by the real Prometheus", () => {
  it.for([
    ["no series", "no_such_metric", "Inconclusive", "no series"],
    ["not a number", "vector(0) / 0", "Inconclusive", "NaN"],
    ["more than any number", "vector(1) / 0", "Inconclusive", "+Inf"],
    ["two series", 'label_replace(vector(0), "a", "b", "", "") or vector(0)', "Error", "2 series, not one"],
    ["a query that is none", "sum(", "Error", "HTTP 400: bad_data: "],
    ["a range", "up[5m]", "Error", "a matrix"],
    ["a text", '"0"', "Error", "a string"],
  ] as const)("%s", async ([, query, verdict, message]) => {
    const metric = { name: "m", threshold: { max: "0.01" }, provider: { prometheus: { query } } };
    const prometheus = `http://127.0.0.1:${cluster.ports.prometheus}`;
    const measurement = await verdictOf({ metric, prometheus });
    expect(measurement.verdict).toBe(verdict);
    expect(measurement.message).toContain(message);
  });

  it.for([
    ['a"} or vector(5) #', '"{{args.a}}"'],
    ["a\\'\n\t`", "'{{args.a}}'"],
  ] as const)("a value is the text that it is: %j", async ([value, place]) => {
    const query = `sum(label_replace(vector(0.005), "a", ${place}, "", "") == 0.005)`;
    const metric = { name: "m", threshold: { max: "0.01" }, provider: { prometheus: { query } } };
    const prometheus = `http://127.0.0.1:${cluster.ports.prometheus}`;
    expect(await verdictOf({ metric, args: { a: value }, prometheus })).toMatchObject({ value: "0.005" });
  });
});
