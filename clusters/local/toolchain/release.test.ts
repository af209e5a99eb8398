import { createHash } from "node:crypto";
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { exec } from "./exec.ts";
import { type Downloads, downloadRelease, type ReleaseFile, releaseArchitecture } from "./release.ts";
import { TOOLS } from "./tools.ts";

const BINARY = Buffer.from("#!/bin/sh\necho v1\n");
const sha256 = (data: Buffer) => createHash("sha256").update(data).digest("hex");
const FILE: ReleaseFile = { project: "kubernetes", path: "v1/bin/tool", sha256: sha256(BINARY) };

let folder: string;
let server: Server;
let asked: string[];
let answer: (response: ServerResponse, count: number) => void;
let downloads: Downloads;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "baton-release-"));
  asked = [];
  answer = (response) => response.end(BINARY);
  server = createServer((request, response) => {
    asked.push(request.url ?? "");
    answer(response, asked.length);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const env = { BATON_DOWNLOADS: `http://127.0.0.1:${port}/mirror/` };
  downloads = { unusable: new Map(), env, progress: () => {}, silenceMs: 200 };
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(folder, { recursive: true });
});

const fetched = (file: ReleaseFile = FILE) => downloadRelease(file, folder, "tool", downloads);
const left = () => readdir(folder);

describe("a release file", () => {
  it("is taken from the mirror, whole and executable", async () => {
    expect(await fetched()).toBeUndefined();
    expect(asked).toEqual(["/mirror/kubernetes/v1/bin/tool"]);
    expect(await readFile(join(folder, "tool"))).toEqual(BINARY);
    expect((await stat(join(folder, "tool"))).mode & 0o111).toBe(0o111);
    expect(await left()).toEqual(["tool"]);
  });

  it("is taken out of its archive", async () => {
    const source = await mkdtemp(join(tmpdir(), "baton-archive-"));
    await writeFile(join(source, "inside"), BINARY);
    await chmod(join(source, "inside"), 0o644);
    await exec("tar", ["-czf", join(source, "a.tar.gz"), "-C", source, "./inside"]);
    const archive = await readFile(join(source, "a.tar.gz"));
    await rm(source, { recursive: true });
    answer = (response) => response.end(archive);
    const file = { ...FILE, path: "v1/a.tar.gz", sha256: sha256(archive), member: "./inside" };
    expect(await fetched(file)).toBeUndefined();
    expect(await readFile(join(folder, "tool"))).toEqual(BINARY);
    expect(await left()).toEqual(["tool"]);
    const other = { ...file, member: "./absent" };
    expect(await downloadRelease(other, folder, "other", downloads)).toContain(
      "./absent is not in the archive",
    );
    expect(await left()).toEqual(["tool"]);
  });

  it("is refused when its checksum is another one", async () => {
    answer = (response) => response.end("#!/bin/sh\necho evil\n");
    expect(await fetched()).toMatch(/has the SHA-256 [0-9a-f]{64}, not/);
    expect(await left()).toEqual([]);
  });

  it("is not asked for twice when it is not there", async () => {
    answer = (response) => response.writeHead(404).end("<html>");
    expect(await fetched()).toContain("status 404 for /mirror/kubernetes/v1/bin/tool");
    expect(asked).toHaveLength(1);
    expect(await left()).toEqual([]);
  });

  it("is asked for again when the connection was cut", async () => {
    answer = (response, count) => {
      if (count > 1) return response.end(BINARY);
      response.writeHead(200, { "content-length": BINARY.length });
      return response.write(BINARY.subarray(0, 5), () => response.destroy());
    };
    expect(await fetched()).toBeUndefined();
    expect(asked).toHaveLength(2);
    expect(await readFile(join(folder, "tool"))).toEqual(BINARY);
  });

  it.each([
    ["is cut each time", (response: ServerResponse) => response.destroy()],
    ["falls silent", () => {}],
  ])("leaves nothing half when the connection %s", async (_, then) => {
    answer = (response) => {
      response.writeHead(200, { "content-length": BINARY.length });
      response.write(BINARY.subarray(0, 5), () => then(response));
    };
    expect(await fetched()).toContain("/mirror/kubernetes: ");
    expect(asked).toHaveLength(2);
    expect(await left()).toEqual([]);
  });

  it("is not waited for at an address that has not answered once", async () => {
    answer = () => {};
    expect(await fetched()).toContain("nothing for 0.2 s");
    expect(await fetched({ ...FILE, path: "v1/bin/another" })).toContain("nothing for 0.2 s");
    expect(asked).toHaveLength(1);
  });

  it("says why a server cannot be reached", async () => {
    downloads = { ...downloads, env: { BATON_DOWNLOADS: "http://127.0.0.1:1" } };
    expect(await fetched()).toMatch(/127\.0\.0\.1:1\/kubernetes: .+/);
  });

  it("is not looked for where that is switched off, and an address that is none is said", async () => {
    downloads = { ...downloads, env: { BATON_DOWNLOADS: "off" } };
    expect(await fetched()).toBe("BATON_DOWNLOADS is off");
    downloads = { ...downloads, env: { BATON_DOWNLOADS: "mirror.example" } };
    await expect(fetched()).rejects.toThrow("BATON_DOWNLOADS is mirror.example");
    expect(asked).toEqual([]);
  });
});

it("every tool that others publish has a release file for this machine", () => {
  expect(releaseArchitecture("linux", "x64")).toBe("amd64");
  expect(releaseArchitecture("linux", "arm64")).toBe("arm64");
  expect(releaseArchitecture("darwin", "arm64")).toBeUndefined();
  if (releaseArchitecture() === undefined) return;
  const files = TOOLS.flatMap(({ name, source }) =>
    source.kind === "go" && source.release !== undefined ? [[name, source.release.path] as const] : [],
  );
  const names = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"];
  expect(files.map(([name]) => name)).toEqual(names);
  for (const [, path] of files) expect(path).toContain(releaseArchitecture());
});
