import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { Sha256 } from "@aws-crypto/sha256-js";
import { SignatureV4 } from "@smithy/signature-v4";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { exec } from "#clusters/local/toolchain/exec.ts";
import { fetchBytes } from "#runtime/model/fetch.ts";
import { digestOf, loadModel, type ModelManifest } from "#runtime/model/index.ts";
import { goldenRows } from "#runtime/model/manifest.ts";
import { onnxEngine } from "#runtime/model/onnx.ts";

const root = join(import.meta.dirname, "..", "..");
const source = join(root, "apps/signal-model/models/momentum/1.0.0");
let folder: string;
let server: Server;
let base: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "baton-model-"));
  await cp(source, join(folder, "m"), { recursive: true });
  // Serves the model's files, and answers the Open Inference Protocol with the real engine.
  const manifest = JSON.parse(await readFile(join(source, "model.json"), "utf8")) as ModelManifest;
  const engine = await onnxEngine(manifest, await readFile(join(source, "model.onnx")));
  server = createServer((request, response) => {
    void (async () => {
      if (request.url?.startsWith("/models/") && !(await signedByAws(request))) {
        response.statusCode = 403;
        response.end();
        return;
      }
      if (request.method === "GET") {
        const bytes = await readFile(join(source, basename(request.url ?? ""))).catch(() => undefined);
        response.statusCode = bytes === undefined ? 404 : 200;
        response.end(bytes);
        return;
      }
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const body = JSON.parse(Buffer.concat(chunks).toString()) as {
        inputs: [{ shape: [number]; data: number[] }];
      };
      const [input] = body.inputs;
      const count = input.shape[0];
      const answers = await engine.run(Float32Array.from(input.data), count);
      const outputs = Object.entries(answers).map(([name, values]) => ({
        name,
        datatype: "FP32",
        shape: [count],
        data: Array.from(values),
      }));
      const expected = `/v2/models/momentum/versions/1.0.0/infer`;
      response.statusCode = request.url === expected ? 200 : 404;
      response.end(JSON.stringify({ model_name: "momentum", outputs }));
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  server.close();
  await rm(folder, { recursive: true });
});

const KEYS = {
  AWS_ACCESS_KEY_ID: "test-access",
  AWS_SECRET_ACCESS_KEY: "test-secret",
  AWS_REGION: "eu-west-1",
};

/** Whether a request bears the signature that Amazon's own signer makes for it: our client's is another library. */
async function signedByAws(request: IncomingMessage): Promise<boolean> {
  const authorization = request.headers.authorization ?? "";
  const names = /SignedHeaders=([^,]+)/.exec(authorization)?.[1]?.split(";") ?? [];
  const date = String(request.headers["x-amz-date"]);
  const time = date.replace(/^(....)(..)(..T..)(..)/, "$1-$2-$3:$4:");
  const signer = new SignatureV4({
    service: "s3",
    region: KEYS.AWS_REGION,
    credentials: { accessKeyId: KEYS.AWS_ACCESS_KEY_ID, secretAccessKey: KEYS.AWS_SECRET_ACCESS_KEY },
    sha256: Sha256,
    uriEscapePath: false,
  });
  const expected = await signer.sign(
    {
      method: "GET",
      protocol: "http:",
      hostname: "127.0.0.1",
      path: request.url ?? "",
      headers: Object.fromEntries(names.map((name) => [name, String(request.headers[name])])),
    },
    { signingDate: new Date(time) },
  );
  const signature = (text: string | undefined) => /Signature=([0-9a-f]{64})/.exec(text ?? "")?.[1];
  return (
    signature(authorization) !== undefined &&
    signature(authorization) === signature(expected.headers["authorization"])
  );
}

const released = async () => digestOf(await readFile(join(source, "model.json")));
const load = async (uri: string, extra: { digest?: string; server?: string } = {}) =>
  loadModel({ uri, digest: await released(), registry: new Registry(), ...extra });

/** A copy of the model whose manifest was changed, and its digest. */
async function altered(
  change: (manifest: ModelManifest) => object,
): Promise<{ uri: string; digest: string }> {
  const path = await mkdtemp(join(folder, "altered-"));
  await cp(source, path, { recursive: true });
  const manifest = JSON.parse(await readFile(join(path, "model.json"), "utf8")) as ModelManifest;
  const text = JSON.stringify(change(manifest));
  await writeFile(join(path, "model.json"), text);
  return { uri: `file://${path}/model.json`, digest: digestOf(Buffer.from(text)) };
}

it("sends no usage data: the runtime neither logs nor queues any in a process of its own", async () => {
  const home = await mkdtemp(join(folder, "home-"));
  const script = `
    const { onnxEngine } = await import("#runtime/model/onnx.ts");
    const { readFileSync } = await import("node:fs");
    const manifest = JSON.parse(readFileSync("${source}/model.json", "utf8"));
    const engine = await onnxEngine(manifest, readFileSync("${source}/model.onnx"));
    await engine.run(new Float32Array(manifest.featureView.features.length), 1);
    await engine.close();`;
  const env = { ...process.env, HOME: home, TMPDIR: home, XDG_CACHE_HOME: home };
  const result = await exec(process.execPath, ["--input-type=module", "-e", script], { cwd: root, env });
  expect(result).toMatchObject({ code: 0 });
  // With usage data on, it keeps a log and a queue there from the first session on.
  expect(await readdir(home)).toEqual([]);
});

describe("loading a model", () => {
  it.each([
    ["an absolute file", () => `file://${source}/model.json`],
    ["a file below the working folder", () => "file:apps/signal-model/models/momentum/1.0.0/model.json"],
    ["a web server", () => `${base}/model.json`],
  ])("works from %s and gives the golden answers", async (_, uri) => {
    const model = await load(uri());
    const { golden } = model.manifest;
    const answers = await model.infer(goldenRows(model.manifest), golden.inputs.length);
    for (const [row, mu] of golden.outputs.mu.entries()) expect(answers.mu[row]).toBeCloseTo(mu, 6);
    await model.verify();
    await model.close();
  });

  it("works from S3 with requests signed as Amazon signs them, and not with another secret", async () => {
    const env = { ...KEYS, AWS_ENDPOINT_URL_S3: base };
    const bytes = await fetchBytes("s3://models/momentum/1.0.0/model.json", env);
    expect(digestOf(bytes)).toBe(await released());
    const wrong = fetchBytes("s3://models/momentum/1.0.0/model.json", {
      ...env,
      AWS_SECRET_ACCESS_KEY: "another",
    });
    await expect(wrong).rejects.toThrow(/HTTP 403/);
  });

  it("answers one row and many rows alike", async () => {
    const model = await load(`file://${source}/model.json`);
    const rows = goldenRows(model.manifest);
    const width = model.manifest.featureView.features.length;
    const all = await model.infer(rows, rows.length / width);
    const one = await model.infer(rows.slice(width, 2 * width), 1);
    expect(one.mu[0]).toBeCloseTo(all.mu[1] ?? Number.NaN, 8);
    await expect(model.infer(rows.slice(1), 1)).rejects.toMatchObject({ code: "BAD_INPUT" });
    await model.close();
  });

  it("runs behind an Open Inference Protocol server, held to the same golden answers", async () => {
    const model = await load(`file://${source}/model.json`, { server: base });
    await model.verify();
    await model.close();
    await expect(load(`file://${source}/model.json`, { server: `${base}/nowhere` })).rejects.toMatchObject({
      code: "INFERENCE_FAILED",
    });
  });

  it("is refused with the wrong digest, of the manifest and of the model file", async () => {
    const uri = `file://${folder}/m/model.json`;
    await expect(load(uri, { digest: `sha256:${"0".repeat(64)}` })).rejects.toMatchObject({
      code: "WRONG_DIGEST",
    });
    const bytes = await readFile(join(folder, "m/model.onnx"));
    bytes[bytes.length - 20] = (bytes[bytes.length - 20] ?? 0) ^ 1;
    await writeFile(join(folder, "m/model.onnx"), bytes);
    await expect(load(uri)).rejects.toMatchObject({ code: "WRONG_DIGEST" });
  });

  it("is refused when it does not give its golden answers", async () => {
    const { uri, digest } = await altered((manifest) => {
      manifest.golden.outputs.mu[3] = (manifest.golden.outputs.mu[3] ?? 0) + 0.001;
      return manifest;
    });
    await expect(load(uri, { digest })).rejects.toThrow(/row 3, mu/);
  });

  it.each<[string, (manifest: ModelManifest) => object, string]>([
    ["a field is missing", ({ horizonMs: _, ...rest }) => rest, "BAD_MANIFEST"],
    [
      "a golden row is too short",
      (m) => ({ ...m, golden: { ...m.golden, inputs: [[1], ...m.golden.inputs.slice(1)] } }),
      "BAD_MANIFEST",
    ],
    ["the file has no such output", (m) => ({ ...m, outputs: { ...m.outputs, mu: "nothing" } }), "BAD_MODEL"],
    ["the model file leads out of its folder", (m) => ({ ...m, file: "../model.onnx" }), "BAD_MANIFEST"],
  ])("is refused when %s", async (_, change, code) => {
    const { uri, digest } = await altered(change);
    await expect(load(uri, { digest })).rejects.toMatchObject({ code });
  });

  it.each([
    ["ftp://x/model.json", "BAD_URI"],
    ["file:///no/such/file.json", "UNREACHABLE"],
    ["s3://bucket/model.json", "UNREACHABLE"],
  ])("of %s fails with %s", async (uri, code) => {
    await expect(load(uri)).rejects.toMatchObject({ code });
  });

  it("is told apart from garbage", async () => {
    const bytes = Buffer.from("not a model");
    const path = await mkdtemp(join(folder, "garbage-"));
    const manifest = {
      ...JSON.parse(await readFile(join(source, "model.json"), "utf8")),
      fileDigest: digestOf(bytes),
    };
    const text = JSON.stringify(manifest);
    await writeFile(join(path, "model.json"), text);
    await writeFile(join(path, "model.onnx"), bytes);
    const options = { digest: digestOf(Buffer.from(text)) };
    await expect(load(`file://${path}/model.json`, options)).rejects.toMatchObject({ code: "BAD_MODEL" });
  });
});

describe("fitting", () => {
  it("gives the committed bytes again", async () => {
    const result = await exec(process.execPath, ["apps/signal-model/models/fit/main.ts", folder], {
      cwd: root,
    });
    expect(result.tail.join("\n")).toContain("momentum 3.0.0");
    for (const version of ["1.0.0", "2.0.0", "3.0.0"]) {
      for (const file of ["model.onnx", "model.json"]) {
        const committed = await readFile(join(root, "apps/signal-model/models/momentum", version, file));
        const made = await readFile(join(folder, "momentum", version, file));
        expect([version, file, digestOf(made)]).toEqual([version, file, digestOf(committed)]);
      }
    }
  });
});
