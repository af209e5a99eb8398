import { expect, it } from "vitest";
import { drawRelease } from "./deployments.ts";

const revision = (name: string, version: string, available: number) => ({
  ...{ revision: name, version, digest: "", replicas: 2, available, coherent: true },
});

it("a release shows who decides on what, also what was taken back and decides on", () => {
  const drawn = drawRelease({
    metadata: { name: "momentum", namespace: "trading" },
    spec: {},
    status: {
      phase: "Progressing",
      message: "r-3, step 0: pauses",
      stable: revision("r-1", "1.0.0", 0),
      candidate: revision("r-3", "3.0.0", 2),
      weight: 25,
      assignments: [
        { revision: "r-2", epoch: 4, instruments: ["ETHUSDT", "UNIUSDT"] },
        { revision: "r-3", epoch: 4, instruments: ["BTCUSDT"] },
      ],
    },
  });
  expect(drawn).toMatch(/stable +r-1 +1\.0\.0 +0\/2 +shadow/);
  expect(drawn).toMatch(/candidate +r-3 +3\.0\.0 +2\/2 +BTCUSDT \(25 %\)/);
  expect(drawn).toMatch(/taken back +r-2 +ETHUSDT, UNIUSDT/);
});
