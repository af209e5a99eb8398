import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttp, type RequestListener, type Server } from "node:http";
import { createServer as createHttps } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { ensurePki } from "#clusters/local/pki.ts";
import { type CliRun, cli } from "#tests/support/cli.ts";
import { createProgram, walk } from "./cli.ts";

// What the command line says where it cannot begin: one sentence with what to do, exit code 1.

const folder = mkdtempSync(join(tmpdir(), "baton-contact-"));
const file = (name: string, text: string) => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};
/** A kubeconfig with one context, `here`. */
const kubeconfig = (server: string, change: Readonly<Record<string, unknown>> = {}) =>
  file(
    "config",
    JSON.stringify({
      clusters: [{ name: "c", cluster: { server, "insecure-skip-tls-verify": true } }],
      users: [{ name: "u", user: { token: "t" } }],
      contexts: [{ name: "here", context: { cluster: "c", user: "u" } }],
      "current-context": "here",
      ...change,
    }),
  );

let answer: RequestListener = () => {};
let plain: Server;
let secure: Server;
const address = (server: Server, scheme = "http") =>
  `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`;

beforeAll(async () => {
  for (const name of ["ours", "theirs"]) {
    mkdirSync(join(folder, name));
    await ensurePki(join(folder, name), "https://127.0.0.1:1");
  }
  plain = createHttp((request, response) => answer(request, response));
  const pem = (name: string) => readFileSync(join(folder, "theirs", name));
  secure = createHttps({ cert: pem("apiserver.crt"), key: pem("apiserver.key") }, (request, response) =>
    answer(request, response),
  );
  for (const server of [plain, secure])
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
afterAll(() => {
  for (const server of [plain, secure]) {
    server.close();
    server.closeAllConnections();
  }
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(() => {
  answer = (_, response) => response.writeHead(500).end();
});

/** One line, in words of ours: no stack, no code of a library. */
function says(run: CliRun, sentence: string | RegExp): void {
  expect(run.output).toMatch(sentence);
  expect(run.output.trim().split("\n")).toEqual([run.output.trim()]);
  expect(run.output).toMatch(/^error: /);
  expect(run.code).toBe(1);
}

/** What each command needs to be understood. */
const ARGUMENTS: Readonly<Record<string, readonly string[]>> = {
  rollback: ["--to-version", "1.0.0", "--reason", "x"],
  halt: ["momentum"],
  release: ["momentum", "--reason", "x"],
  move: ["BTCUSDT", "--to", "r-1"],
  "dead-letters list": ["features"],
  "dead-letters replay": ["features"],
};
const ALONE = ["lint", "promote-env", "complete", "history", "dead-letters", ""];
const commands = walk(createProgram()).filter(({ path }) => !ALONE.includes(path));
const asks = ({ command }: (typeof commands)[number], flag: string) =>
  command.options.some(({ long }) => long === flag);
const line = (path: string) => [...path.split(" "), ...(ARGUMENTS[path] ?? [])];

describe("each command says", () => {
  const api = commands.filter((one) => asks(one, "--context")).map(({ path }) => path);
  const kafka = commands.filter((one) => asks(one, "--brokers")).map(({ path }) => path);

  it("which of the two it needs", () => {
    expect([...api, ...kafka].toSorted()).toEqual(commands.map(({ path }) => path).toSorted());
  });

  it.each(api)("%s: that there is no kubeconfig", async (path) => {
    says(
      await cli({}, ...line(path)),
      'no kubeconfig: run `eval "$(npm run -s cluster -- env)"` or set KUBECONFIG',
    );
  });

  it.each(api)("%s: that there is no such context", async (path) => {
    const env = { KUBECONFIG: kubeconfig("https://127.0.0.1:1") };
    const option = path === "rollback" ? "--environment" : "--context";
    says(await cli(env, ...line(path), option, "prod"), "the kubeconfig has no context prod; it has here");
  });

  it.each(api)("%s: that Baton is not installed", async (path) => {
    answer = (_, response) => response.writeHead(404).end("404 page not found\n");
    const env = { KUBECONFIG: kubeconfig(address(plain)) };
    says(await cli(env, ...line(path)), "Baton is not installed in the cluster of the context here");
  });

  it.each(kafka)("%s: that KAFKA_BROKERS is not set, or no address", async (path) => {
    says(await cli({}, ...line(path)), "KAFKA_BROKERS is not set: say --brokers host:port");
    says(
      await cli({ KAFKA_BROKERS: "localhost" }, ...line(path)),
      'KAFKA_BROKERS: "localhost" is no address',
    );
    says(
      await cli({}, ...line(path), "--brokers", "a:1,http://b:2"),
      '--brokers: "http://b:2" is no address',
    );
    says(await cli({ KAFKA_BROKERS: "kafka:99999" }, ...line(path)), "is no address: host:port");
  });

  it.each(["halt", "release"])("%s: that REDIS_URL is not set, or no address", async (path) => {
    const KAFKA_BROKERS = "127.0.0.1:1";
    says(await cli({ KAFKA_BROKERS }, ...line(path)), "REDIS_URL is not set: say --redis redis://host:port");
    says(
      await cli({ KAFKA_BROKERS, REDIS_URL: "localhost:6379" }, ...line(path)),
      'REDIS_URL: "localhost:6379" is no address',
    );
  });
});

describe("a kubeconfig", () => {
  it.each<readonly [string, () => string, string | RegExp]>([
    [
      "that is not there",
      () => join(folder, "nowhere"),
      /nowhere is not there: run `eval .* or set KUBECONFIG/,
    ],
    ["that is a folder", () => folder, "is a folder"],
    ["whose YAML is broken", () => file("broken", "clusters: [a\n b: {"), /broken is no YAML: .+ line \d/],
    ["that is empty", () => file("empty", ""), "empty is no kubeconfig: it names no clusters"],
    ["that is something else", () => file("else", "kind: ConfigMap"), "is no kubeconfig"],
    [
      "whose fields are not",
      () => file("odd", "clusters: [{name: 1}]"),
      /odd (cannot be used as a kubeconfig|has no current)/,
    ],
    [
      "without a current context",
      () => kubeconfig("https://127.0.0.1:1", { "current-context": "" }),
      "has no current context: choose one with --context",
    ],
    [
      "whose current context is gone",
      () => kubeconfig("https://127.0.0.1:1", { "current-context": "gone" }),
      "has no context gone, its current one",
    ],
    [
      "whose context names no cluster",
      () => kubeconfig("https://127.0.0.1:1", { clusters: [] }),
      "the context here names the cluster c, which is not there",
    ],
    [
      "whose context names no user",
      () => kubeconfig("https://127.0.0.1:1", { users: [] }),
      "the context here names the user u, who is not there",
    ],
    [
      "whose address is none",
      () => kubeconfig("127.0.0.1:1"),
      "the cluster c has the address 127.0.0.1:1: it must begin with https://",
    ],
    [
      "whose address is plain HTTP",
      () =>
        kubeconfig("http://127.0.0.1:1", {
          clusters: [{ name: "c", cluster: { server: "http://127.0.0.1:1" } }],
        }),
      "it must begin with https://",
    ],
    [
      "whose certificate is not there",
      () =>
        kubeconfig("https://127.0.0.1:1", {
          clusters: [
            {
              name: "c",
              cluster: { server: "https://127.0.0.1:1", "certificate-authority": join(folder, "gone.crt") },
            },
          ],
        }),
      "gone.crt, which cannot be read",
    ],
    [
      "whose certificate is none",
      () =>
        kubeconfig("https://127.0.0.1:1", {
          users: [{ name: "u", user: { "client-certificate-data": "AAAA", "client-key-data": "AAAA" } }],
        }),
      "certificate or key that cannot be used",
    ],
    [
      "whose token is not there",
      () =>
        kubeconfig("https://127.0.0.1:1", {
          users: [{ name: "u", user: { tokenFile: join(folder, "gone.token") } }],
        }),
      "gone.token, which cannot be read",
    ],
    [
      "whose program is not there",
      () =>
        kubeconfig("https://127.0.0.1:1", {
          users: [
            {
              name: "u",
              user: { exec: { command: "no-such-helper", apiVersion: "client.authentication.k8s.io/v1" } },
            },
          ],
        }),
      "from the program no-such-helper, which is not on the PATH",
    ],
  ])("%s", async (_, make, sentence) => {
    says(await cli({ KUBECONFIG: make() }, "get"), sentence);
  });

  it.skipIf(process.getuid?.() === 0)("that this user may not read", async () => {
    const path = file("secret", "clusters: []");
    chmodSync(path, 0);
    says(await cli({ KUBECONFIG: path }, "get"), "cannot be read: this user has no permission");
  });
});

describe("the API server", () => {
  const status =
    (code: number, message: string): RequestListener =>
    (_, response) =>
      response.writeHead(code).end(JSON.stringify({ kind: "Status", message }));

  it.each<readonly [string, RequestListener, string | RegExp]>([
    [
      "does not know who asks",
      status(401, "Unauthorized"),
      "does not accept the credentials of the context here",
    ],
    [
      "allows nothing",
      status(403, 'modeldeployments.baton.dev is forbidden: User "eve" cannot list'),
      /not allowed: .*User "eve" cannot list; ask who/,
    ],
    [
      "has no definitions",
      status(404, "the server could not find the requested resource"),
      "Baton is not installed",
    ],
    ["is in trouble", status(503, "etcdserver: leader changed"), /is in trouble \(HTTP 503\): etcdserver/],
    [
      "is another program",
      (_, response) => response.writeHead(302).end("<html>"),
      /what answers at http:.* \(HTTP 302\) is no API server: check the cluster's address/,
    ],
  ])("%s", async (_, listener, sentence) => {
    answer = listener;
    says(await cli({ KUBECONFIG: kubeconfig(address(plain)) }, "get"), sentence);
  });

  it("does not listen, or its name is not known", async () => {
    says(
      await cli({ KUBECONFIG: kubeconfig("https://127.0.0.1:1") }, "get"),
      "nothing listens at 127.0.0.1:1: is the cluster running?",
    );
    says(
      await cli({ KUBECONFIG: kubeconfig("https://nowhere.invalid:6443") }, "get"),
      "the name nowhere.invalid is not known here",
    );
  });

  it("is not the one that the kubeconfig trusts", async () => {
    const ours = {
      name: "c",
      cluster: { server: address(secure, "https"), "certificate-authority": join(folder, "ours", "ca.crt") },
    };
    const run = await cli({ KUBECONFIG: kubeconfig("", { clusters: [ours] }) }, "get");
    says(
      run,
      /the certificate of https:\/\/127\.0\.0\.1:\d+ is signed by an authority that .*config does not name/,
    );
  });

  it("speaks no TLS", async () => {
    says(await cli({ KUBECONFIG: kubeconfig(address(plain, "https")) }, "get"), "does not speak TLS");
  });
});

describe("a name that nothing has", () => {
  const PATH = "/apis/baton.dev/v1alpha1/namespaces/baton/modeldeployments";
  const objects = (...names: readonly string[]) => ({ items: names.map((name) => ({ metadata: { name } })) });
  const serve =
    (answers: Readonly<Record<string, unknown>>): RequestListener =>
    ({ url = "" }, response) => {
      const found = answers[url.split("?")[0] ?? ""];
      if (found !== undefined) response.end(JSON.stringify(found));
      else response.writeHead(404).end(JSON.stringify({ message: 'x "y" not found' }));
    };
  const run = (...args: readonly string[]) => cli({ KUBECONFIG: kubeconfig(address(plain)) }, ...args);

  it.each(["get", "pause", "approve", "history list", "rollback"])("%s: names the nearest", async (path) => {
    answer = serve({ [PATH]: objects("momentum", "carry") });
    const [verb = "", ...rest] = path.split(" ");
    const named = await run(verb, ...rest, "momentun", ...(ARGUMENTS[path] ?? []));
    says(named, "no such ModelDeployment in baton: momentun; known: momentum, carry; did you mean momentum?");
    says(
      await run(verb, ...rest, "../secrets", ...(ARGUMENTS[path] ?? [])),
      "no such ModelDeployment in baton: ../secrets",
    );
    says(await run(verb, ...rest, "", ...(ARGUMENTS[path] ?? [])), 'no such ModelDeployment in baton: ""');
  });

  it("a namespace: names those that there are", async () => {
    answer = serve({
      [PATH.replace("/baton/", "/batom/")]: objects(),
      "/api/v1/namespaces": objects("baton", "kube-system"),
    });
    const sentence = "no such namespace batom; known: baton, kube-system; did you mean baton?";
    for (const args of [["get"], ["get", "x"], ["pause"], ["pause", "x"]])
      says(await run(...args, "-n", "batom"), sentence);
  });

  it("no error where a namespace is only empty", async () => {
    answer = serve({ [PATH]: objects(), "/api/v1/namespaces/baton": { metadata: { name: "baton" } } });
    expect(await run("get")).toEqual({ code: 0, output: "no ModelDeployment in baton\n" });
  });
});

describe("a command line", () => {
  it.each([
    [[], 2, "Usage: baton"],
    [["frobnicate"], 2, "unknown command 'frobnicate'"],
    [["promot"], 2, "Did you mean promote?"],
    [["move"], 2, "required option '--to <revision>' not specified"],
    [["halt"], 2, "missing required argument 'deployment'"],
    [["get", "--nonsense"], 2, "See 'baton get --help'."],
    [["move", "BTCUSDT", "--to", "r", "--take-seconds", "soon"], 2, "not a number of seconds"],
    [["dead-letters", "replay", "x", "--max-attempts", "0"], 2, "not a whole number above 0"],
    [["check", "--within", "-1"], 2, "not a number of seconds"],
    [["--version"], 0, /^\d+\.\d+\.\d+\n$/],
    [["lint", "/nonexistent.yaml"], 1, "/nonexistent.yaml: there is no such file"],
    [["lint", "/"], 1, "is a folder"],
  ])("%j ends with %i", async (args, code, sentence) => {
    const run = await cli({}, ...args);
    expect(run.output).toMatch(sentence);
    expect(run.code).toBe(code);
  });

  it.each(
    walk(createProgram()).filter(({ command, path }) => path !== "complete" && command.commands.length === 0),
  )("$path has examples in its help", async ({ path }) => {
    const { code, output } = await cli({}, ...path.split(" "), "--help");
    expect(code).toBe(0);
    expect(output).toMatch(new RegExp(`^Examples:\\n {2}# .+\\n {2}baton ${path}`, "m"));
  });
});

// All take the same way to Kafka; kafkajs tries for seconds.
describe("Kafka", { timeout: 60_000 }, () => {
  const away = (...args: readonly string[]) => cli({ KAFKA_BROKERS: "127.0.0.1:1" }, ...args);

  it("does not answer", async () => {
    const run = await away("assignments");
    expect(run.output).toMatch(/^error: Kafka does not answer at 127\.0\.0\.1:1: is it running/m);
    expect(run.code).toBe(1);
  });

  it("does not answer a check, which says so of each part", async () => {
    const run = await away("check", "--within", "0");
    expect(run.output).toMatch(/^FAILED kafka +.*no broker answers/m);
    expect(run.code).toBe(1);
  });
});
