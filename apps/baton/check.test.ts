import { createServer, type Server } from "node:http";
import { afterAll, beforeAll, expect, it } from "vitest";
import { freePort } from "#clusters/local/ports.ts";
import { seen } from "./check.ts";

let server: Server;
let host = "";
let answer: object = {};
beforeAll(async () => {
  server = createServer(({ url = "", headers }, response) => {
    const isThere = url.startsWith("/prometheus/api/v1/query?") && headers.authorization !== undefined;
    response.writeHead(isThere ? 200 : 404).end(isThere ? JSON.stringify(answer) : "404 page not found");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  host = `127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`;
});
afterAll(() => {
  server.close();
});

const up = (values: Readonly<Record<string, string>>, more: object = {}) => ({
  status: "success",
  data: {
    resultType: "vector",
    result: Object.entries(values).map(([app, value]) => ({ metric: { app }, value: [1, value] })),
  },
  ...more,
});

it("asks Prometheus below the path of its address, with its user and password", async () => {
  answer = up({ operator: "1", features: "1" });
  for (const path of ["/prometheus", "/prometheus/"])
    expect(await seen(`http://u:pw@${host}${path}`, "trading")).toBe("reads features, operator");
});

it.each([
  [up({ operator: "1", features: "0" }), "does not reach features"],
  [up({}), "knows no service in trading"],
  [up({ operator: "1" }, { warnings: ["one store is away"] }), "one store is away"],
  [{ status: "error", errorType: "timeout", error: "too slow" }, "timeout: too slow"],
])("is not so with %o", async (body, says) => {
  answer = body;
  await expect(seen(`http://u:pw@${host}/prometheus`, "trading")).rejects.toThrow(says);
});

it("names the address that does not answer, without its user and password", async () => {
  const address = `127.0.0.1:${await freePort()}`;
  const error = await seen(`http://someone:pw@${address}/prometheus`, "trading").catch(
    (cause: Error) => cause,
  );
  expect(String(error)).toContain(`http://${address}/prometheus: fetch failed`);
  expect(String(error)).not.toMatch(/someone|pw@/);
});
