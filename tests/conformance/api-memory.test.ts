import { describe } from "vitest";
import { MemoryCluster } from "#tests/support/memory-cluster.ts";
import { apiSuite } from "./api.ts";

const cluster = new MemoryCluster();
describe("the API server in memory", () => {
  apiSuite(() => ({ api: (manager) => cluster.api(manager), namespace: "test" }));
});
