import { afterAll, beforeAll, describe, inject } from "vitest";
import { KubeApi } from "#operators/controller-kit/api.ts";
import { PodBench } from "#tests/support/kubernetes.ts";
import { apiSuite } from "./api.ts";

const bench = new PodBench(inject("cluster"));
const opened: KubeApi[] = [];
beforeAll(() => bench.open());
afterAll(async () => {
  for (const api of opened) api.close();
  await bench.close();
});

describe("the real API server", () => {
  apiSuite(() => ({
    api: (fieldManager) => {
      const api = new KubeApi(bench.config, { fieldManager });
      opened.push(api);
      return api;
    },
    namespace: bench.namespace,
  }));
});
