import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, it, vi } from "vitest";
import { loadKubeConfig } from "./kubeconfig.ts";

const folder = mkdtempSync(join(tmpdir(), "kubeconfig-"));
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

it("a token's file that a kubeconfig names is used", async () => {
  writeFileSync(join(folder, "token"), "secret-token");
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "c", cluster: { server: "https://127.0.0.1:1" } }],
    users: [{ name: "u", user: { tokenFile: join(folder, "token") } }],
    contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
    "current-context": "x",
  };
  writeFileSync(join(folder, "config"), JSON.stringify(config));
  vi.stubEnv("KUBECONFIG", join(folder, "config"));
  const options: { headers: Record<string, string> } = { headers: {} };
  await loadKubeConfig().applyToHTTPSOptions(options);
  expect(options.headers["Authorization"]).toBe("Bearer secret-token");
});
