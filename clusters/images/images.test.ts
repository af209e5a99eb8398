import { execFileSync } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { cacheFolder, ensureToolchain } from "../local/toolchain/index.ts";
import { SERVER_IMAGES, SERVICE_IMAGES, toolsFor } from "./catalog.ts";
import { packOwned } from "./owned.ts";

it.each<[string, string[]]>([
  ["redis", ["redis-server"]],
  ["kafka", ["kafka"]],
  ["prometheus", ["prometheus-server"]],
  ["alertmanager", ["prometheus-alertmanager"]],
  ...SERVICE_IMAGES.map(({ name }): [string, string[]] => [name, []]),
])("%s needs of the toolchain: %j", (image, tools) => {
  expect(toolsFor([image])).toEqual(tools);
});

it("what is not needed is not looked for, let alone built", async () => {
  const told: string[] = [];
  const env = { ...process.env, BATON_CACHE: "/nonexistent", KUBEBUILDER_ASSETS: "/nonexistent" };
  const { paths } = await ensureToolchain({ progress: (line) => told.push(line), env, only: [] });
  expect([...paths.keys()]).toEqual([]);
  expect(told).toEqual([]);
  expect(cacheFolder(env)).toBe("/nonexistent");
});

it("what a server writes to belongs to its user, and nothing above it does", async () => {
  const folder = await mkdtemp(join(tmpdir(), "baton-test-"));
  try {
    for (const { data } of SERVER_IMAGES) {
      const path = join(folder, "owned.tar");
      await packOwned(path, data);
      const listed = execFileSync("tar", ["--list", "--verbose", "--numeric-owner", "--file", path], {
        encoding: "utf8",
      });
      const lines = listed
        .trim()
        .split("\n")
        .map((line) => line.split(/\s+/));
      expect(lines.map(([mode, owner, , , , name]) => [mode, owner, name])).toEqual([
        ["drwxrwxrwt", "0/0", "tmp/"],
        ["drwxr-x---", "10001/10001", `${data?.slice(1)}/`],
      ]);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

it("each server's image has the folder that its manifest puts the disk at", async () => {
  const at = join(import.meta.dirname, "..", "kind", "manifests");
  const files = (await readdir(at)).filter((name) => name.endsWith(".yaml"));
  const texts = await Promise.all(files.map((name) => readFile(join(at, name), "utf8")));
  const mounts = texts.flatMap((text) =>
    parseAllDocuments(text).flatMap((document) => {
      const { kind, metadata, spec } = (document.toJS() ?? {}) as {
        kind?: string;
        metadata: { name: string };
        spec: {
          template: { spec: { containers: { volumeMounts: { name: string; mountPath: string }[] }[] } };
        };
      };
      if (kind !== "StatefulSet") return [];
      const [container] = spec.template.spec.containers;
      const mount = container?.volumeMounts.find(({ name }) => name === "data");
      return [[metadata.name, mount?.mountPath] as const];
    }),
  );
  expect(mounts.length).toBe(SERVER_IMAGES.length);
  expect(Object.fromEntries(mounts)).toEqual(
    Object.fromEntries(SERVER_IMAGES.map(({ name, data }) => [name, data])),
  );
});
