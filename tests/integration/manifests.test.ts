import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { environments, renderCluster } from "#charts/render.ts";
import { ensureToolchain, toolPath } from "#clusters/local/toolchain/index.ts";
import { KUBE_SCORE, KUBECONFORM } from "#clusters/local/toolchain/tools.ts";
import { definition, KINDS } from "#operators/model-deployment/api/crd.ts";
import { type Definitions, schemaOfDefinition, schemasOf } from "#tests/support/schemas.ts";

// Every environment's manifests against the schemas of the real API server and of our own kinds, and against kube-score.

let folder: string;
let conform: string;
let score: string;

/** Strimzi's kinds: their schemas are not to be had here. */
const UNKNOWN = ["Kafka", "KafkaNodePool"];

/** Images are named by digests, or are brought to the nodes by hand: to ask for them at each start only adds a way to fail. */
const NOT_OURS = ["container-image-pull-policy"];

beforeAll(async () => {
  const toolchain = await ensureToolchain({
    progress: (line) => console.error(line),
    more: [KUBECONFORM, KUBE_SCORE],
  });
  [conform, score] = [toolPath(toolchain, "kubeconform"), toolPath(toolchain, "kube-score")];
  folder = await mkdtemp(join(tmpdir(), "baton-schemas-"));
  const kubeconfig = join(inject("cluster").folder, "pki", "admin.kubeconfig");
  const get = ["--kubeconfig", kubeconfig, "get", "--raw", "/openapi/v2"];
  const answer = spawnSync(toolPath(toolchain, "kubectl"), get, { encoding: "utf8", maxBuffer: 64e6 });
  const { definitions } = JSON.parse(answer.stdout) as { readonly definitions: Definitions };
  for (const [name, schema] of schemasOf(definitions))
    await writeFile(join(folder, name), JSON.stringify(schema));
  for (const kind of KINDS) {
    const file = `${kind.kind.toLowerCase()}-baton-v1alpha1.json`;
    await writeFile(join(folder, file), JSON.stringify(schemaOfDefinition(definition(kind))));
  }
}, 600_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

function validate(
  manifests: string,
): { readonly status: string; readonly kind: string; readonly msg: string }[] {
  const location = join(folder, "{{.ResourceKind}}{{.KindSuffix}}.json");
  const args = [
    "-strict",
    "-schema-location",
    location,
    "-skip",
    UNKNOWN.join(),
    "-output",
    "json",
    "-verbose",
  ];
  const { stdout, error } = spawnSync(conform, args, { input: manifests, encoding: "utf8", maxBuffer: 64e6 });
  if (error !== undefined) throw error;
  return JSON.parse(stdout).resources;
}

const rendered = [...environments()].map(
  ([name, values]) => [name, [...renderCluster(values).values()].join("---\n")] as const,
);

describe("manifests of", () => {
  it.each(rendered)("%s are valid by the API server's schemas and ours", (_, manifests) => {
    const results = validate(manifests);
    expect(results.length).toBeGreaterThan(25);
    const skipped = results.filter(({ status }) => status === "statusSkipped").map(({ kind }) => kind);
    expect(skipped.filter((kind) => !UNKNOWN.includes(kind))).toEqual([]);
    const bad = results.filter(({ status }) => !["statusValid", "statusSkipped"].includes(status));
    expect(bad).toEqual([]);
  });

  it.each(rendered)("%s have nothing critical by kube-score", (_, manifests) => {
    const ignored = NOT_OURS.flatMap((name) => ["--ignore-test", name]);
    const args = ["score", "--kubernetes-version", "v1.34", "--output-format", "ci", ...ignored, "-"];
    const { status, stdout } = spawnSync(score, args, {
      input: manifests,
      encoding: "utf8",
      maxBuffer: 64e6,
    });
    const problems = stdout.split("\n").filter((line) => /^\[(CRITICAL|WARNING)\]/.test(line));
    expect(problems).toEqual([]);
    expect(status).toBe(0);
  });

  it("are found wrong where they are", () => {
    const dev = rendered.find(([name]) => name === "dev")?.[1] ?? "";
    const wrong = [
      dev.replace("terminationGracePeriodSeconds: 30", 'terminationGracePeriodSeconds: "30"'),
      dev.replace("imagePullPolicy:", "imagePulPolicy:"),
      dev.replace("startingStep: 1", "startingStep: one"),
    ];
    for (const manifests of wrong) {
      expect(manifests).not.toBe(dev);
      expect(validate(manifests).filter(({ status }) => status === "statusInvalid")).toHaveLength(1);
    }
    const unsafe = dev.replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false");
    expect(spawnSync(score, ["score", "-"], { input: unsafe, encoding: "utf8" }).stdout).toContain("Read");
  });
});
