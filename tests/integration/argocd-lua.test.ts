import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { ensureToolchain, toolPath } from "#clusters/local/toolchain/index.ts";
import { ARGOCD } from "#clusters/local/toolchain/tools.ts";
import { parseCommand } from "#operators/model-deployment/adapters/command.ts";
import type { ModelDeploymentStatus } from "#operators/model-deployment/api/status.ts";

// Argo CD's health and actions of a ModelDeployment, as the real argocd runs them.

type Status = Partial<ModelDeploymentStatus>;

let argocd: string;
let folder: string;
const settings = join(import.meta.dirname, "../../argocd/install/argocd-cm.yaml");

beforeAll(async () => {
  const toolchain = await ensureToolchain({ progress: (line) => console.error(line), more: [ARGOCD] });
  argocd = toolPath(toolchain, "argocd");
  folder = await mkdtemp(join(tmpdir(), "baton-argocd-"));
}, 900_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

function override(what: string, status: Status | undefined, ...args: string[]): Promise<string> {
  const metadata = { name: "momentum", namespace: "baton", generation: 2, resourceVersion: "77" };
  const object = { apiVersion: "baton.dev/v1alpha1", kind: "ModelDeployment", metadata, spec: {}, status };
  return overrideOf(object, what, ...args);
}

async function overrideOf(object: object, what: string, ...args: string[]): Promise<string> {
  const file = join(folder, "object.yaml");
  await writeFile(file, stringify(object));
  const command = [
    "admin",
    "settings",
    "resource-overrides",
    what,
    file,
    ...args,
    "--argocd-cm-path",
    settings,
  ];
  // It leaves behind what it compares.
  const env = { ...process.env, TMPDIR: folder };
  const { stdout, stderr, status: code } = spawnSync(argocd, command, { encoding: "utf8", env });
  if (code !== 0) throw new Error(`argocd ${what}: ${stderr}`);
  return stdout;
}

const part = (revision: string) => ({
  revision,
  version: "1.0.0",
  digest: "",
  replicas: 1,
  available: 1,
  coherent: true,
});
const ended = (revision: string) => ({
  ...{ revision, version: "1.0.0", digest: "", completionStatus: "Promoted" as const, reason: "" },
  ...{ startedAt: "2026-01-01T00:00:00Z", endedAt: "2026-01-01T00:00:00Z" },
});
const decision = {
  kind: "Rollback" as const,
  revision: "r2",
  reason: "x",
  message: "",
  at: "2026-01-01T00:00:00Z",
};
const settled: Status = {
  phase: "Healthy",
  observedGeneration: 2,
  stable: part("r1"),
  history: [ended("r1")],
};
const releasing: Status = { ...settled, phase: "Progressing", candidate: part("r2") };

describe("health", () => {
  it.each([
    ["Pending", "Progressing"],
    ["Progressing", "Progressing"],
    ["Paused", "Suspended"],
    ["Healthy", "Healthy"],
    ["Degraded", "Degraded"],
  ] as const)("of %s is %s, with the operator's sentence", async (phase, expected) => {
    const output = await override("health", { phase, message: "r2, step 1: goes on", observedGeneration: 2 });
    expect(output).toContain(`STATUS: ${expected}`);
    expect(output).toContain("MESSAGE: r2, step 1: goes on");
  });

  it("is that something goes on until the operator has seen the object as it is", async () => {
    expect(await override("health", undefined)).toContain("STATUS: Progressing");
    const old = { phase: "Healthy" as const, message: "as before", observedGeneration: 1 };
    const output = await override("health", old);
    expect(output).toContain("STATUS: Progressing");
    expect(output).not.toContain("as before");
  });
});

describe("health of a definition", () => {
  const accepted = { type: "NamesAccepted", status: "True", message: "no conflicts found" };
  const health = (conditions: object[] | undefined, more: object = {}) =>
    overrideOf(
      {
        ...{ apiVersion: "apiextensions.k8s.io/v1", kind: "CustomResourceDefinition" },
        ...{ metadata: { name: "models.baton.dev", ...more }, spec: {} },
        ...(conditions === undefined ? {} : { status: { conditions } }),
      },
      "health",
    );

  it.each([
    ["has just been made", undefined],
    ["is not served yet", [accepted, { type: "Established", status: "False", reason: "Installing" }]],
  ])("that %s is no failure", async (_, conditions) => {
    expect(await health(conditions)).toContain("STATUS: Progressing");
  });

  it("is good when it is served, and bad when its names are taken or its schema is none", async () => {
    const served = { type: "Established", status: "True", message: "the initial names have been accepted" };
    expect(await health([accepted, served])).toContain("STATUS: Healthy");
    const deleted = { deletionTimestamp: "2026-01-01T00:00:00Z" };
    expect(await health([accepted, served], deleted)).toContain("STATUS: Progressing");
    const taken = { type: "NamesAccepted", status: "False", message: "models is taken" };
    const output = await health([taken, served]);
    expect(output).toContain("STATUS: Degraded");
    expect(output).toContain("models is taken");
    const schema = { type: "NonStructuralSchema", status: "True", message: "spec.x: type is missing" };
    expect(await health([accepted, served, schema])).toContain("STATUS: Degraded");
  });
});

describe("actions", () => {
  it.each<readonly [string, Status | undefined, readonly string[]]>([
    ["a new object", undefined, []],
    ["a settled one", settled, []],
    ["one with an earlier revision", { ...settled, history: [ended("r1"), ended("r0")] }, ["undo"]],
    ["a release", releasing, ["abort", "pause", "promote", "promote-full", "undo"]],
    [
      "a paused release",
      { ...releasing, pausedAt: "2026-01-01T00:00:00Z" },
      ["abort", "promote", "promote-full", "resume", "undo"],
    ],
    ["a release that goes back", { ...releasing, decision }, ["abort", "retry", "undo"]],
    [
      "a promotion that is decided",
      { ...releasing, decision: { ...decision, kind: "Promote" } },
      ["abort", "pause", "undo"],
    ],
    ["one that was rolled back", { ...settled, phase: "Degraded", condemned: ["r2"] }, ["retry"]],
  ])("of %s", async (_, status, enabled) => {
    const lines = (await override("list-actions", status)).trim().split("\n").slice(1);
    const actions = lines.map((line) => line.trim().split(/\s+/) as [string, string]);
    expect(actions.map(([name]) => name)).toEqual([
      ...["abort", "pause", "promote", "promote-full", "resume", "retry", "undo"],
    ]);
    expect(actions.filter(([, disabled]) => disabled === "false").map(([name]) => name)).toEqual(enabled);
  });

  it.each<readonly [string, Status, string]>([
    ["promote", releasing, "r2"],
    ["promote-full", releasing, "r2"],
    ["pause", releasing, "r2"],
    ["resume", { ...releasing, pausedAt: "2026-01-01T00:00:00Z" }, "r2"],
    ["abort", releasing, "r2"],
    ["retry", { ...settled, condemned: ["r5", "r6"] }, "r6"],
    ["retry", { ...settled, pinned: { revision: "r1", instead: "r4", at: "2026-01-01T00:00:00Z" } }, "r4"],
    ["undo", { ...settled, history: [ended("r1"), ended("r0")] }, "r1"],
  ])("%s asks the operator as baton does", async (verb, status, revision) => {
    const output = await override("run-action", status, verb);
    const added = output.split("\n").filter((line) => /^[<>]/.test(line));
    expect(added).toHaveLength(2);
    const [, text] = /baton\.dev\/command: '(.*)'$/.exec(added[1] ?? "") ?? [];
    expect(parseCommand(text)).toEqual({ id: `argocd-77-${verb}`, verb, revision });
  });
});
