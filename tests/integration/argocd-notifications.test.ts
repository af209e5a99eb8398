import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { stringify } from "yaml";
import { ensureToolchain, toolPath } from "#clusters/local/toolchain/index.ts";
import { ARGOCD } from "#clusters/local/toolchain/tools.ts";

// What Argo CD would tell, by the real argocd: its own expressions and templates over applications in different states.

const run = promisify(execFile);
const settings = join(import.meta.dirname, "../../argocd/install/argocd-notifications-cm.yaml");

let argocd: string;
let folder: string;

beforeAll(async () => {
  const toolchain = await ensureToolchain({ progress: (line) => console.error(line), more: [ARGOCD] });
  argocd = toolPath(toolchain, "argocd");
  folder = await mkdtemp(join(tmpdir(), "baton-notifications-"));
}, 900_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

async function ask(status: object, ...args: string[]): Promise<string> {
  const file = join(folder, "application.yaml");
  const metadata = { name: "baton-dev-models", namespace: "argocd" };
  const destination = { server: "https://kubernetes.default.svc", namespace: "baton" };
  const spec = { project: "default", source: { repoURL: "file:///none", path: "." }, destination };
  await writeFile(
    file,
    stringify({ apiVersion: "argoproj.io/v1alpha1", kind: "Application", metadata, spec, status }),
  );
  const [what = "", verb = "", name = "", ...more] = args;
  const command = ["admin", "notifications", what, verb, name, file, ...more];
  const env = { ...process.env, KUBECONFIG: join(inject("cluster").folder, "pki", "admin.kubeconfig") };
  const { stdout } = await run(argocd, [...command, "--config-map", settings, "--secret", ":empty"], { env });
  return stdout;
}

const state = (health: string, sync: string, phase: string) => ({
  health: { status: health },
  sync: { status: sync, revision: "4f0c1de" },
  operationState: {
    phase,
    message: "one object is refused",
    startedAt: "2026-11-22T00:00:00Z",
    operation: {},
  },
});
const promoted = state("Healthy", "Synced", "Succeeded");
const comingIn = state("Progressing", "Synced", "Succeeded");
const takenBack = state("Degraded", "Synced", "Succeeded");
const refused = state("Healthy", "OutOfSync", "Failed");

describe("Argo CD's notifications", () => {
  it.each([
    ["on-deployed", promoted, [comingIn, takenBack, refused]],
    ["on-health-degraded", takenBack, [promoted, comingIn, refused]],
    ["on-sync-failed", refused, [promoted, comingIn, takenBack]],
  ])("tell of %s when it is so, and only then", async (trigger, when, others) => {
    expect(await ask(when, "trigger", "run", trigger)).toMatch(/true/);
    for (const other of others) expect(await ask(other, "trigger", "run", trigger)).not.toMatch(/true/);
  });

  it.each([
    ["baton-deployed", promoted, "baton-dev-models runs what is in Git (4f0c1de)"],
    ["baton-degraded", takenBack, "a release was taken back"],
    ["baton-sync-failed", refused, "baton-dev-models could not be synced: one object is refused"],
  ])("say %s in words", async (template, when, words) => {
    expect(await ask(when, "template", "notify", template, "--recipient", "console:stdout")).toContain(words);
  });
});
