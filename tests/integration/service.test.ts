import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { freePort } from "#clusters/local/ports.ts";
import { Subject } from "#tests/support/processes.ts";
import { waitFor } from "#tests/support/wait.ts";

const root = join(import.meta.dirname, "..", "..");

describe("a service", () => {
  it("with a configuration that is wrong in five places says all five and exits with 78", async () => {
    const service = new Subject(process.execPath, [join(root, "apps/signal-model/main.ts")], {
      KAFKA_BROKERS: "a:1,,b:2",
      REDIS_URL: "not a url",
      DEPLOYMENT: "Momentum!",
      REVISION: "r1",
      MODEL_URI: "file:x",
      MODEL_DIGEST: "latest",
      HTTP_PORT: "70000",
    });
    service.start();
    expect(await service.ended()).toBe(78);
    await waitFor("the output", () => service.output.includes("MODEL_DIGEST"));
    expect(service.output).toContain("wrong in 5 places");
    for (const name of ["KAFKA_BROKERS", "REDIS_URL", "DEPLOYMENT", "MODEL_DIGEST", "HTTP_PORT"]) {
      expect(service.output).toContain(`${name}: `);
    }
    // Addresses may hold passwords.
    expect(service.output).not.toContain("not a url");
  });

  const tiny = (body: string) => `
    import { runService } from "${root}/runtime/service/index.ts";
    await runService({ name: "tiny", env: {}, start: async ({ log, health, tracer, fatal }) => { ${body} } });`;
  const run = (body: string, env: Record<string, string>) =>
    new Subject(process.execPath, ["--input-type=module", "-e", tiny(body)], {
      HTTP_HOST: "127.0.0.1",
      ...env,
    });

  it("leaves secrets out of its log and writes JSON lines", async () => {
    const port = await freePort();
    const service = run(
      `log.info({ password: "hunter2", nested: { token: "abc" }, plain: "yes" }, "hello"); return { stop: async () => {} };`,
      { HTTP_PORT: String(port) },
    );
    service.start();
    await waitFor("the line", () => service.output.includes("hello"));
    const line = JSON.parse(service.output.split("\n").find((text) => text.includes("hello")) ?? "{}");
    expect(line).toMatchObject({
      level: "info",
      name: "tiny",
      password: "[redacted]",
      nested: { token: "[redacted]" },
      plain: "yes",
    });
    expect((await service.end("SIGTERM")).code).toBe(0);
  });

  it("exits with 1 on an error that nobody caught, and says it", async () => {
    const service = run(
      `setTimeout(() => { throw new Error("boom"); }, 50); return { stop: async () => {} };`,
      {
        HTTP_PORT: "0",
      },
    );
    service.start();
    expect(await service.ended()).toBe(1);
    expect(service.output).toContain("boom");
  });

  it("says that it is not ready while it drains, and gives up after its time", async () => {
    const port = await freePort();
    const service = run(`return { stop: () => new Promise(() => {}) };`, {
      HTTP_PORT: String(port),
      DRAIN_SECONDS: "1",
    });
    service.start();
    await waitFor("readiness", async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).ok);
    service.signal("SIGTERM");
    await waitFor("draining", async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).status === 503);
    expect(await service.ended()).toBe(1);
    expect(service.output).toContain("not drained in 1 s");
  });

  it("names a failing check in readiness and stays alive", async () => {
    const port = await freePort();
    const service = run(
      `health.check("disk", async () => { throw new Error("full"); }); return { stop: async () => {} };`,
      {
        HTTP_PORT: String(port),
      },
    );
    service.start();
    const body = await waitFor("the answer", async () => {
      const response = await fetch(`http://127.0.0.1:${port}/readyz`);
      const text = await response.text();
      return text.includes("disk") && !text.includes("still starting")
        ? { status: response.status, text }
        : undefined;
    });
    expect(body.status).toBe(503);
    expect(body.text).toContain('"name":"disk","ok":false');
    expect(body.text).toContain("full");
    expect((await fetch(`http://127.0.0.1:${port}/livez`)).status).toBe(200);
    await service.end();
  });

  it("sends spans to an OTLP endpoint when there is one", async () => {
    const bodies: string[] = [];
    const collector = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const body = Buffer.concat(chunks).toString("latin1");
        bodies.push(`${request.url} ${body}`);
        response.end("{}");
      });
    });
    await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
    const endpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
    const service = run(`tracer.startSpan("a-span-of-ours").end(); return { stop: async () => {} };`, {
      HTTP_PORT: "0",
      OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    });
    service.start();
    await waitFor("the span", () =>
      bodies.some((body) => body.startsWith("/v1/traces") && body.includes("a-span-of-ours")),
    );
    expect((await service.end("SIGTERM")).code).toBe(0);
    collector.close();
  });
});
