import { describe, expect, it } from "vitest";
import type { ModelDeploymentStatus } from "#operators/model-deployment/api/status.ts";
import type { ModelDeployment } from "./cluster.ts";
import { meant, revisionOfVersion } from "./verbs.ts";

const revision = (name: string, version: string) => ({
  revision: name,
  version,
  digest: "",
  replicas: 2,
  available: 2,
  coherent: true,
});
const ended = (
  name: string,
  version: string,
  completionStatus: NonNullable<ModelDeploymentStatus["history"]>[number]["completionStatus"],
) => ({ revision: name, version, digest: "", completionStatus, reason: "", startedAt: "", endedAt: "" });
const object = (status: ModelDeploymentStatus): ModelDeployment => ({
  metadata: { name: "momentum", namespace: "trading" },
  spec: {},
  status,
});
const status: ModelDeploymentStatus = {
  stable: revision("r-3", "3.0.0"),
  candidate: revision("r-5", "5.0.0"),
  condemned: ["r-4", "r-1"],
  history: [
    ended("r-1", "1.0.0", "RolledBack"),
    ended("r-4", "4.0.0", "RolledBack"),
    ended("r-3", "3.0.0", "FastPromoted"),
    ended("r-25", "2.5.0", "Superseded"),
    ended("r-2", "2.0.0", "Promoted"),
    ended("r-1", "1.0.0", "Promoted"),
  ],
};

describe("the version that a rollback names", () => {
  it("is one that was promoted", () => {
    expect(revisionOfVersion(object(status), "2.0.0")).toBe("r-2");
    expect(revisionOfVersion(object(status), "3.0.0")).toBe("r-3");
  });

  it.each([
    ["9.9.9", "has had no version 9.9.9"],
    ["4.0.0", "was rolled back from version 4.0.0"],
    ["1.0.0", "was rolled back from version 1.0.0"],
    ["2.5.0", "was never promoted to version 2.5.0"],
    ["5.0.0", "was never promoted to version 5.0.0"],
  ])("is refused otherwise, with those that there are: %s", (version, why) => {
    expect(() => revisionOfVersion(object(status), version)).toThrow(
      `momentum ${why}; it can go back to 3.0.0, 2.0.0`,
    );
  });

  it("is refused where there is none", () => {
    expect(() => revisionOfVersion(object({}), "1.0.0")).toThrow("it can go back to none");
  });
});

it("a retry means what was taken back, not what is being released now", () => {
  expect(meant("retry", object(status))).toBe("r-1");
  expect(meant("abort", object(status))).toBe("r-5");
  const decision = { kind: "Rollback", revision: "r-5", reason: "", message: "", at: "" } as const;
  expect(meant("retry", object({ ...status, decision }))).toBe("r-5");
});
