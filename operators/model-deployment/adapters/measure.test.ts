import { createServer, type Server, type ServerResponse } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePort } from "#clusters/local/ports.ts";
import { verdictOf as measured } from "#tests/support/measuring.ts";
import type { Measurement } from "../api/status.ts";

// What each answer of a provider comes to: a verdict, and a sentence that says what came. By a server here, in
// milliseconds; that a release without evidence is not promoted is shown with the real Prometheus.

type Answer = (answer: ServerResponse, url: URL) => void;

let server: Server;
let base = "";
let answers: Answer;
const asked: { url: URL; authorization: string | undefined }[] = [];
beforeAll(async () => {
  server = createServer(({ url = "", headers }, answer) => {
    const asks = new URL(url, "http://localhost");
    asked.push({ url: asks, authorization: headers.authorization });
    answers(answer, asks);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  base = `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

const json =
  (body: unknown, status = 200): Answer =>
  (answer) =>
    answer.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
const text =
  (body: string, status = 200, headers: Record<string, string> = {}): Answer =>
  (answer) =>
    answer.writeHead(status, headers).end(body);
/** A result that is a function is made when it is asked for: it has a time in it. */
const data =
  (resultType: string, result: unknown, more: object = {}): Answer =>
  (answer, url) => {
    const made: unknown = typeof result === "function" ? result() : result;
    json({ status: "success", data: { resultType, result: made }, ...more })(answer, url);
  };
const now = () => Date.now() / 1_000;
const series = (value: string, at = now()) => ({ metric: {}, value: [at, value] });
const vector = (value: string, more: object = {}) => data("vector", () => [series(value)], more);

interface Asked {
  readonly metric?: object;
  readonly args?: Record<string, string>;
  readonly prometheus?: string;
  readonly address?: string;
  readonly query?: string;
}

async function verdictOf(answer: Answer, how: Asked = {}): Promise<Measurement> {
  answers = answer;
  asked.length = 0;
  const { address, query = "x", args = {}, prometheus = base } = how;
  const provider = { prometheus: { query, ...(address === undefined ? {} : { address }) } };
  const metric = { name: "m", threshold: { max: "0.05" }, provider, ...how.metric };
  return measured({ metric, args, prometheus });
}

describe("what Prometheus answers", () => {
  it.each<[what: string, answer: Answer, verdict: string, message: string | undefined]>([
    ["a number", vector("0"), "Success", undefined],
    ["a number with an exponent", vector("1e-3"), "Success", undefined],
    ["a scalar", data("scalar", () => [now(), "0"]), "Success", undefined],
    ["harm", vector("0.5"), "Failure", "0.5 is above 0.05"],
    [
      "remarks on the query",
      vector("0", { infos: ["PromQL info: x might not be a counter"] }),
      "Success",
      undefined,
    ],
    ["no warnings", vector("0", { warnings: [] }), "Success", undefined],
    [
      "a part, with a warning",
      vector("0", { warnings: ["PARTIAL RESPONSE: store 10.0.0.7:10901"] }),
      "Inconclusive",
      "no number: Prometheus warns: PARTIAL RESPONSE: store 10.0.0.7:10901",
    ],
    ["harm, with a warning", vector("1", { warnings: ["a", "b"] }), "Inconclusive", "Prometheus warns: a; b"],
    ["a part, as VictoriaMetrics says it", vector("0", { isPartial: true }), "Inconclusive", "partial"],
    ["nothing", data("vector", []), "Inconclusive", "no number: no series"],
    ["NaN", vector("NaN"), "Inconclusive", "no number: NaN"],
    ["+Inf", vector("+Inf"), "Inconclusive", "no number: +Inf"],
    ["Inf", vector("Inf"), "Inconclusive", "no number: +Inf"],
    ["-Inf", vector("-Inf"), "Inconclusive", "no number: -Inf"],
    ["a number beyond all that there are", vector("1e999"), "Inconclusive", "no number: +Inf"],
    ["an empty text", vector(""), "Error", 'no number: ""'],
    ["a space", vector(" "), "Error", "no number"],
    ["a hexadecimal number", vector("0x0"), "Error", "no number"],
    ["two series", data("vector", () => [series("0"), series("0")]), "Error", "2 series, not one"],
    ["five minutes ago", data("vector", () => [series("0", now() - 300)]), "Error", "s from our own time"],
    ["in an hour", data("vector", () => [series("0", now() + 3_600)]), "Error", "s from our own time"],
    ["in milliseconds", data("vector", () => [series("0", Date.now())]), "Error", "s from our own time"],
    ["a matrix", data("matrix", []), "Error", "a matrix"],
    ["a string", data("string", [now(), "0"]), "Error", "a string, not a number"],
    [
      "a histogram",
      data("vector", [{ metric: {}, histogram: [now(), {}] }]),
      "Error",
      "a histogram, not a number",
    ],
    ["a vector that is none", data("vector", "x"), "Error", "no answer of Prometheus"],
    ["a type of the future", data("tensor", []), "Error", "no answer of Prometheus"],
    [
      "an error with status 200",
      json({ status: "error", errorType: "internal", error: "away" }),
      "Error",
      "internal: away",
    ],
    [
      "an error with status 422",
      json({ status: "error", errorType: "bad_data", error: "parse error" }, 422),
      "Error",
      "HTTP 422: bad_data: parse error",
    ],
    [
      "success with status 503",
      json({ status: "success", data: { resultType: "vector", result: [] } }, 503),
      "Error",
      "HTTP 503",
    ],
    ["status 500", text("broken", 500), "Error", "HTTP 500: broken"],
    ["status 404", text("404 page not found\n", 404), "Error", "HTTP 404: 404 page not found"],
    [
      "a page with status 200",
      text("<html>\n  please log in</html>"),
      "Error",
      "no JSON: <html> please log in",
    ],
    ["an empty answer", text(""), "Error", "an empty answer"],
    ["no content", text("", 204), "Error", "an empty answer"],
    ["JSON of something else", json({ ok: true }), "Error", 'no answer of Prometheus: {"ok":true}'],
    ["null", text("null"), "Error", "no answer of Prometheus: null"],
    [
      "a redirect",
      text("", 302, { location: "https://u:hush@login.example/in?token=hush" }),
      "Error",
      "HTTP 302, a redirect to https://login.example/in, which is not followed",
    ],
    ["a redirect to nowhere", text("", 307), "Error", "a redirect to nowhere"],
    [
      "more than 1 MiB",
      // It is not waited for to the end: it has none.
      (answer) => {
        const more = () => {
          while (!answer.destroyed && answer.write("x".repeat(65_536)));
        };
        answer.on("drain", more);
        more();
      },
      "Error",
      "an answer of more than 1 MiB",
    ],
    [
      "half an answer",
      (answer) => {
        answer.write('{"status":"succ');
        answer.socket?.destroy();
      },
      "Error",
      "",
    ],
  ])("%s", async (_, answer, verdict, message) => {
    const measurement = await verdictOf(answer);
    expect(measurement.verdict).toBe(verdict);
    if (message === undefined) expect(measurement.message).toBeUndefined();
    else expect(measurement.message).toContain(message);
    expect(JSON.stringify(measurement)).not.toContain("hush");
  });

  it("nobody listens", async () => {
    const address = `http://127.0.0.1:${await freePort()}`;
    const { verdict, message } = await verdictOf(vector("0"), { address });
    expect(verdict).toBe("Error");
    expect(message).toMatch(/fetch failed.*ECONNREFUSED/);
  });

  it("no answer in time", async () => {
    const web = { url: base, jsonPath: "a", timeoutSeconds: 1 };
    const measurement = await verdictOf(() => {}, { metric: { provider: { web } } });
    expect(measurement).toMatchObject({ verdict: "Error", message: "no answer in 1 s" });
  });

  it.each([
    ["1000", "Success", undefined],
    ["9", "Inconclusive", "9 samples, fewer than 10"],
    ["+Inf", "Inconclusive", "samplesQuery: +Inf"],
    ["NaN", "Inconclusive", "samplesQuery: NaN"],
  ])("%s samples where ten are needed", async (count, verdict, message) => {
    const provider = { prometheus: { query: "x", samplesQuery: "count" } };
    const answer: Answer = (to, url) =>
      vector(url.searchParams.get("query") === "count" ? count : "0")(to, url);
    const measurement = await verdictOf(answer, { metric: { minSamples: 10, provider } });
    expect(measurement.verdict).toBe(verdict);
    if (message !== undefined) expect(measurement.message).toContain(message);
  });

  it("no samples at all where ten are needed", async () => {
    const provider = { prometheus: { query: "x", samplesQuery: "count" } };
    const answer: Answer = (to, url) =>
      (url.searchParams.get("query") === "count" ? data("vector", []) : vector("0"))(to, url);
    const measurement = await verdictOf(answer, { metric: { minSamples: 10, provider } });
    expect(measurement).toMatchObject({ verdict: "Inconclusive", message: "0 samples, fewer than 10" });
  });
});

describe("where Prometheus is asked", () => {
  const below: Answer = (answer, url) =>
    (url.pathname === "/select/0/prometheus/api/v1/query" ? vector("0") : text("none", 404))(answer, url);

  it.each([
    ["/select/0/prometheus", ""],
    ["/select/0/prometheus/", ""],
    ["/select/0/prometheus//", ""],
    ["/select/0/prometheus?dedup=true", "true"],
    ["/select/0/prometheus/?dedup=true#part", "true"],
  ])("below the path of its address: %s", async (path, dedup) => {
    for (const how of [{ prometheus: `${base}${path}` }, { address: `${base}${path}` }]) {
      expect(await verdictOf(below, how)).toMatchObject({ verdict: "Success" });
      expect(asked[0]?.url.searchParams.get("dedup") ?? "").toBe(dedup);
      expect(asked[0]?.url.searchParams.get("query")).toBe("x");
    }
  });

  it("with the operator's own user and password, which nobody is shown", async () => {
    const prometheus = base.replace("//", "//scraper:p%40ss@");
    expect(await verdictOf(vector("0"), { prometheus })).toMatchObject({ verdict: "Success" });
    expect(asked[0]?.authorization).toBe(`Basic ${Buffer.from("scraper:p@ss").toString("base64")}`);
    const refused = await verdictOf(text("who are you", 401), { prometheus });
    expect(refused).toMatchObject({ verdict: "Error", message: "HTTP 401: who are you" });
    const away = `http://scraper:p%40s@127.0.0.1:${await freePort()}`;
    const nobody = await verdictOf(vector("0"), { prometheus: away });
    expect(nobody.verdict).toBe("Error");
    expect(nobody.message).not.toMatch(/scraper|p@s|p%40s/);
  });

  it("not with a user and password that an object holds: whoever reads it would know them", async () => {
    const refused = "holds a user and password: it may not";
    const address = base.replace("//", "//u:hush@");
    for (const how of [
      { address },
      { metric: { provider: { web: { url: address, jsonPath: "a" } } } },
      {
        metric: { provider: { web: { url: "{{args.at}}/x", jsonPath: "a" } } },
        args: { at: address },
      },
    ]) {
      const measurement = await verdictOf(vector("0"), how);
      expect(measurement.verdict).toBe("Error");
      expect(measurement.message).not.toContain("hush");
      expect(asked).toEqual([]);
    }
    expect((await verdictOf(vector("0"), { address })).message).toContain(refused);
  });
});

describe("what is filled in", () => {
  it("a query, with arguments as text inside quotes and as numbers outside", async () => {
    const query = 'histogram_quantile({{args.p99}}, x{r="{{revision}}",i="{{args.name}}"}[{{window}}])';
    await verdictOf(vector("0"), { query, args: { p99: "0.99", name: 'a"} or vector(0) #' } });
    expect(asked[0]?.url.searchParams.get("query")).toBe(
      'histogram_quantile(0.99, x{r="r-2",i="a\\"} or vector(0) #"}[60s])',
    );
  });

  it.each(["{{revison}}", "{{args.other}}", "x {{revision}}"])("not %s: nothing is asked", async (query) => {
    expect(await verdictOf(vector("0"), { query })).toMatchObject({ verdict: "Error" });
    expect(asked).toEqual([]);
  });
});

describe("what a web address answers", () => {
  const web = (jsonPath: string, url = `${base}/metrics/x?r={{revision}}`) => ({
    metric: { provider: { web: { url, jsonPath } } },
  });

  it.each([
    ["a number", { data: { errors: 0 } }, "data.errors", "Success", undefined],
    ["an entry of a list", { data: [{ value: 0.5 }] }, "data.0.value", "Failure", "0.5 is above 0.05"],
    ["a number as text", { data: { errors: "0" } }, "data.errors", "Inconclusive", "data.errors is a string"],
    ["null", { data: { errors: null } }, "data.errors", "Inconclusive", "data.errors is null"],
    ["true", { errors: false }, "errors", "Inconclusive", "errors is a boolean"],
    ["a list", { errors: [0] }, "errors", "Inconclusive", "errors is a list"],
    ["nothing there", { data: {} }, "data.errors", "Inconclusive", "the answer has no data.errors"],
    [
      "what every object has",
      {},
      "constructor.length",
      "Inconclusive",
      "the answer has no constructor.length",
    ],
  ])("%s", async (_, body, path, verdict, message) => {
    const measurement = await verdictOf(json(body), web(path));
    expect(measurement.verdict).toBe(verdict);
    if (message !== undefined) expect(measurement.message).toContain(message);
    expect(asked[0]?.url.href).toContain("/metrics/x?r=r-2");
  });

  it("more than any number", async () => {
    const measurement = await verdictOf(text('{"a":1e999}'), web("a"));
    expect(measurement).toMatchObject({ verdict: "Inconclusive", message: "no number: +Inf" });
  });

  it("an address that an argument would lead elsewhere", async () => {
    const url = `${base}/metrics/{{args.name}}/errors`;
    await verdictOf(json({ a: 0 }), { ...web("a", url), args: { name: "x/../../admin?a=1#" } });
    expect(asked[0]?.url.pathname).toBe("/metrics/x%2F..%2F..%2Fadmin%3Fa%3D1%23/errors");
    const up = await verdictOf(json({ a: 0 }), { ...web("a", url), args: { name: ".." } });
    expect(up.verdict).toBe("Error");
  });
});

describe("stable, beside a candidate that is over its bound", () => {
  const prometheus = { query: 'x{r="{{revision}}"}', samplesQuery: 'n{r="{{revision}}"}' };
  const both =
    (candidate: string, stable: Answer, count = "10"): Answer =>
    (answer, url) => {
      const query = url.searchParams.get("query") ?? "";
      if (query.includes("r-2")) vector(query.startsWith("n") ? "10" : candidate)(answer, url);
      else if (query.startsWith("n")) vector(count)(answer, url);
      else stable(answer, url);
    };
  const metric = { minSamples: 10, sharedCause: {}, provider: { prometheus } };

  it("that is over it too is a shared cause", async () => {
    const measurement = await verdictOf(both("0.5", vector("0.25")), { metric });
    expect(measurement).toMatchObject({
      verdict: "Inconclusive",
      reason: "SharedCause",
      value: "0.5",
      baseline: "0.25",
      message: "0.5 with the candidate and 0.25 with stable: 0.5 is above 0.05",
    });
  });

  it.each<[what: string, stable: Answer, count?: string]>([
    ["is well", vector("0.01")],
    ["is at the bound", vector("0.05")],
    ["has no series", data("vector", [])],
    ["has no number", vector("+Inf")],
    ["is measured in part", vector("0.25", { warnings: ["partial"] })],
    ["cannot be measured", text("broken", 500)],
    ["has too few samples", vector("0.25"), "9"],
    ["has no end of samples", vector("0.25"), "+Inf"],
  ])("that %s excuses nothing", async (_, stable, count) => {
    const measurement = await verdictOf(both("0.5", stable, count), { metric });
    expect(measurement).toMatchObject({ verdict: "Failure", message: "0.5 is above 0.05" });
    expect(measurement.reason).toBeUndefined();
  });

  it("is not asked for where nothing is compared with it", async () => {
    const { sharedCause: _, ...plain } = metric;
    await verdictOf(both("0.5", vector("0.25")), { metric: plain });
    expect(asked).toHaveLength(2);
  });
});
