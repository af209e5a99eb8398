import { describe, expect, it } from "vitest";
import { commitMessage, type ModelDeployment, rollbackOf } from "./plan.ts";

const at = "2026-01-01T00:00:00Z";
const version = (revision: string, digest: string) => ({
  ...{ revision, version: revision.slice(1), digest, replicas: 1, available: 1, coherent: true },
});
const entry = {
  ...{ revision: "r3", version: "3", digest: "bad", reason: "AnalysisFailed", message: "error-rate is 0.2" },
  ...{ completionStatus: "RolledBack" as const, startedAt: at, endedAt: "2026-01-01T00:01:00Z" },
};
const object = (status: ModelDeployment["status"], digest = "bad"): ModelDeployment => ({
  metadata: { name: "momentum", namespace: "baton" },
  spec: { model: { digest } },
  ...(status === undefined ? {} : { status }),
});
const rolledBack = { stable: version("r2", "good"), history: [entry] };

describe("a rollback is written back", () => {
  it("with what is condemned, what decides instead, and why", () => {
    expect(rollbackOf(object(rolledBack))).toEqual({
      namespace: "baton",
      name: "momentum",
      bad: { revision: "r3", version: "3", digest: "bad" },
      good: { revision: "r2", version: "2", digest: "good" },
      reason: "AnalysisFailed",
      evidence: "error-rate is 0.2",
      startedAt: at,
      endedAt: "2026-01-01T00:01:00Z",
    });
  });

  it.each<readonly [string, ModelDeployment]>([
    ["there is no status", object(undefined)],
    ["nothing has been released", object({ stable: version("r2", "good") })],
    ["the spec names another model", object(rolledBack, "better")],
    ["another one is being released", object({ ...rolledBack, candidate: version("r4", "new") })],
    [
      "it is not over",
      object({ ...rolledBack, decision: { kind: "Rollback", revision: "r3", reason: "", message: "", at } }),
    ],
    [
      "a person has aborted it",
      object({ ...rolledBack, history: [{ ...entry, completionStatus: "Aborted" }] }),
    ],
    ["it was promoted", object({ ...rolledBack, history: [{ ...entry, completionStatus: "Promoted" }] })],
    [
      "the model is the same, and something else differs",
      object({ ...rolledBack, stable: version("r2", "bad") }),
    ],
  ])("not where %s", (_, found) => {
    expect(rollbackOf(found)).toBeUndefined();
  });
});

describe("the commit's message", () => {
  it("has trailers, each on one line, whatever the evidence holds", () => {
    const rollback = rollbackOf(
      object({ ...rolledBack, history: [{ ...entry, message: "a\nBaton-Revision: x\n\n" }] }),
    );
    if (rollback === undefined) throw new Error("nothing to write back");
    const message = commitMessage(rollback, ["md/0@5", "md/1@7"]);
    expect(message.split("\n")[0]).toBe("Take momentum back from 3 to 2");
    expect(message.split("\n").filter((line) => line.startsWith("Baton-Revision:"))).toEqual([
      "Baton-Revision: r3",
    ]);
    expect(message).toContain("Baton-Evidence: a Baton-Revision: x\n");
    expect(message).toContain("Baton-Offsets: md/0@5, md/1@7\n");
    expect(commitMessage(rollback, [])).not.toContain("Baton-Offsets");
  });
});
