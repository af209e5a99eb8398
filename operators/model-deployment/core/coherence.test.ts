import { describe, expect, it } from "vitest";
import { type Identified, withReports } from "./coherence.ts";
import type { Reports } from "./observed.ts";

const RIGHT = { model: "sha256:a", configuration: "c1" };
const view = (of: Partial<Identified> = {}): Identified => ({
  revision: "r-1",
  replicas: 2,
  available: 2,
  coherent: true,
  identity: RIGHT,
  ...of,
});
const seen = (reports: Reports | undefined, of?: Partial<Identified>) =>
  withReports([view(of)], reports)[0] ?? expect.fail("it is gone");
const of = (...said: readonly (typeof RIGHT | { model: string } | undefined)[]): Reports =>
  new Map([["r-1", said]]);

describe("what the workers of a revision report", () => {
  it("makes it coherent where every partition's worker has loaded what was released", () => {
    expect(seen(of(RIGHT, RIGHT))).toMatchObject({ coherent: true, deviation: undefined });
  });

  it("does not where one has not reported, and nothing deviates then", () => {
    expect(seen(of(RIGHT, undefined))).toMatchObject({ coherent: false, deviation: undefined });
    expect(seen(new Map())).toMatchObject({ coherent: false, deviation: undefined });
  });

  it("names the model of a replica that has loaded another one", () => {
    const { coherent, deviation } = seen(of(RIGHT, { ...RIGHT, model: "sha256:b" }));
    expect(coherent).toBe(false);
    expect(deviation).toBe("a replica has loaded the model sha256:b, and sha256:a was released");
  });

  it("names the configuration of a replica that was started with another one, or with none", () => {
    expect(seen(of({ ...RIGHT, configuration: "c2" })).deviation).toContain("the configuration c2, and c1");
    expect(seen(of({ model: RIGHT.model })).deviation).toContain("(none)");
  });

  it("does not make coherent what its pods do not", () => {
    expect(seen(of(RIGHT), { coherent: false }).coherent).toBe(false);
  });

  it("counts for nothing of a revision that has no replicas, and before the ledger has been read", () => {
    const before = of({ model: "sha256:b" });
    expect(seen(before, { replicas: 0 }).deviation).toBeUndefined();
    expect(seen(undefined)).toMatchObject({ coherent: true });
  });
});
