import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { RunningContainer } from "./container.ts";
import { runProbe } from "./probe.ts";
import type { Container } from "./types.ts";

// A specification may ask for longer than Node's timers run, 24.8 days; those would end at once.
const SECONDS = 30 * 86_400;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "baton-container-"));
});
afterAll(() => rm(folder, { recursive: true }));

const container = { name: "main", image: "none" } as Container;

function start(script: string, more: Partial<Container> = {}, onChange = () => {}): RunningContainer {
  return new RunningContainer({
    ...{ container: { ...container, ...more }, command: [process.execPath, "-e", script] },
    ...{ logFile: join(folder, "log"), cwd: folder, env: {}, podIp: "127.0.0.1", graceSeconds: 30 },
    onChange,
  });
}

/** Is ready once it can be told to stop, and then takes a while. */
const SLOW = `process.on("SIGTERM", () => setTimeout(() => process.exit(7), 200));
require("fs").writeFileSync("up", "");
setInterval(() => {}, 1e6);`;

it("waits for a grace period of 30 days", async () => {
  const probe = { exec: { command: ["/bin/sh", "-c", `test -e ${join(folder, "up")}`] }, periodSeconds: 1 };
  const ready = Promise.withResolvers<void>();
  const running = start(SLOW, { readinessProbe: probe }, () => ready.resolve());
  await ready.promise;
  await running.stop(SECONDS);
  expect((await running.ended).exitCode).toBe(7);
});

it("waits for a probe that may take 30 days", async () => {
  const command = [process.execPath, "-e", "setTimeout(() => {}, 100)"];
  expect(await runProbe({ exec: { command }, timeoutSeconds: SECONDS }, container, "127.0.0.1", {})).toBe(
    true,
  );
});

it("does not probe before an initial delay of 30 days, and ends with the process", async () => {
  const probe = { exec: { command: ["/bin/true"] }, initialDelaySeconds: SECONDS };
  let changes = 0;
  const running = start("setTimeout(() => {}, 500)", { readinessProbe: probe }, () => {
    changes += 1;
  });
  await running.ended;
  expect(changes).toBe(0);
});
