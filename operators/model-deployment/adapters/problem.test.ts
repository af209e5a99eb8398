import { describe, expect, it } from "vitest";
import { MAX_PROBLEM, problemOf, problemsOf } from "./problem.ts";

const metadata = { name: "echo-1" };
const pod = (status: object) => problemOf({ metadata, status });
const main = (container: object) =>
  pod({ containerStatuses: [{ name: "main", ready: false, ...container }] });

describe("why a pod does not come", () => {
  it.each([
    [
      "the scheduler finds no node",
      {
        conditions: [
          {
            type: "PodScheduled",
            status: "False",
            reason: "Unschedulable",
            message: "0/1 nodes are available: 1 Insufficient cpu.",
          },
        ],
      },
      "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.",
    ],
    [
      "evicted",
      { phase: "Failed", reason: "Evicted", message: "The node was low on resource: memory." },
      "Evicted: The node was low on resource: memory.",
    ],
    [
      "an init container fails",
      {
        initContainerStatuses: [
          { name: "done", ready: false, state: { terminated: { exitCode: 0 } } },
          {
            name: "fetch",
            ready: false,
            state: { waiting: { reason: "CrashLoopBackOff", message: "back-off 10s restarting" } },
            lastState: { terminated: { exitCode: 3, reason: "Error" } },
          },
        ],
        containerStatuses: [
          { name: "main", ready: false, state: { waiting: { reason: "PodInitializing" } } },
        ],
      },
      "init container fetch: CrashLoopBackOff, exit code 3 (Error)",
    ],
    [
      "an init container runs",
      {
        initContainerStatuses: [{ name: "fetch", ready: false, state: { running: {} } }],
        containerStatuses: [
          { name: "main", ready: false, state: { waiting: { reason: "PodInitializing" } } },
        ],
      },
      undefined,
    ],
    ["nothing is known of it yet", {}, undefined],
    [
      "ready",
      {
        conditions: [{ type: "Ready", status: "True" }],
        containerStatuses: [{ name: "main", ready: true, lastState: { terminated: { exitCode: 1 } } }],
      },
      undefined,
    ],
  ])("%s", (_, status, said) => {
    expect(pod(status)).toBe(said);
  });

  it.each([
    [
      "the image is not there",
      { state: { waiting: { reason: "ImagePullBackOff", message: 'Back-off pulling image "x"' } } },
      'main: ImagePullBackOff: Back-off pulling image "x"',
    ],
    [
      "a Secret is not there",
      { state: { waiting: { reason: "CreateContainerConfigError", message: 'secret "x" not found' } } },
      'main: CreateContainerConfigError: secret "x" not found',
    ],
    [
      "it crashes, and says why: the model is another one",
      {
        state: {
          waiting: { reason: "CrashLoopBackOff", message: "back-off 40s restarting failed container" },
        },
        lastState: {
          terminated: {
            exitCode: 1,
            reason: "Error",
            message: "model.json is sha256:a,\n released was sha256:b",
          },
        },
      },
      "main: CrashLoopBackOff, exit code 1 (Error): model.json is sha256:a, released was sha256:b",
    ],
    [
      "it has been started again",
      { state: { running: {} }, lastState: { terminated: { exitCode: 137, reason: "OOMKilled" } } },
      "main: exit code 137 (OOMKilled)",
    ],
    [
      "it has just ended",
      { state: { terminated: { exitCode: 0, reason: "Completed" } } },
      "main: exit code 0 (Completed)",
    ],
    ["it runs", { state: { running: {} } }, "main runs and is not ready"],
  ])("%s", (_, container, said) => {
    expect(main(container)).toBe(said);
  });

  it("is one line of bounded length", () => {
    const said = main({ state: { waiting: { reason: "ErrImagePull", message: "x\n".repeat(5_000) } } });
    expect(said).toHaveLength(MAX_PROBLEM);
    expect(said).not.toContain("\n");
  });
});

describe("why a revision's pods do not come", () => {
  const failure = {
    type: "ReplicaFailure",
    status: "True" as const,
    lastTransitionTime: "2026-01-01T00:00:00Z",
    message: 'pods "echo-x" is forbidden: exceeded quota: hunt',
  };
  const deployment = { metadata, spec: { selector: {}, template: {} }, status: { conditions: [failure] } };
  const of = (name: string, problem?: string) => ({
    metadata: { name },
    status: problem === undefined ? {} : { problem },
  });

  it("is what the first of them says, else why they cannot be made", () => {
    expect(problemsOf(deployment, [of("b", "two"), of("a", "one"), of("0")])).toEqual({ problem: "one" });
    expect(problemsOf(deployment, [of("a")]).problem).toBe(
      'ReplicaFailure: pods "echo-x" is forbidden: exceeded quota: hunt',
    );
    expect(problemsOf({ ...deployment, status: { conditions: [] } }, [of("a")])).toEqual({});
  });
});
