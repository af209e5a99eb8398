import { expect, it } from "vitest";
import { kafkaClass } from "#clusters/local/kafka.ts";
import { exec } from "#clusters/local/toolchain/exec.ts";
import { ensureToolchain, toolPath } from "#clusters/local/toolchain/index.ts";

it("Kafka's classes come from what another of its processes has written down", async () => {
  const libs = toolPath(await ensureToolchain({ progress: () => {} }), "kafka");
  const args = kafkaClass(libs, "kafka.tools.StorageTool", ["random-uuid"], ["-Xlog:class+load"]);
  const { code, tail } = await exec("java", args);
  expect(code).toBe(0);
  expect(tail.join("\n")).toMatch(/org\.apache\.kafka\S+ source: shared objects file \(top\)/);
});
