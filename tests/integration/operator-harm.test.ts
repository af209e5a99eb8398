import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { type Draft, OperatorBench, SHELL } from "#tests/support/operator-bench.ts";
import { startBrokers, startPrometheus, type TestBrokers } from "#tests/support/processes.ts";

// What takes a release back, and what only holds it: each trigger, and evidence or Kafka away and back.

let bench: OperatorBench;
let brokers: TestBrokers;

beforeAll(async () => {
  // A broker of its own: it is killed.
  brokers = await startBrokers(1);
  bench = new OperatorBench(inject("cluster"), { broker: brokers.addresses[0] as string });
  await bench.open();
});
afterAll(async () => {
  await bench.close();
  await brokers.close();
});

describe("a release without a stream", { timeout: 120_000 }, () => {
  const plain = (version: string, change: (draft: Draft) => void = () => {}) =>
    bench.plainSpec(version, (draft) => {
      delete draft["analysis"];
      draft["progressDeadlineSeconds"] = 6;
      change(draft);
    });
  const rolledBack = async (version: string) => {
    const status = await bench.until(
      `${version} to be rolled back`,
      ({ history, candidate }) => history?.[0]?.version === version && candidate === undefined,
    );
    expect(status.stable?.version).toBe("1.0.0");
    return status.history?.[0];
  };

  it("comes in by weights", async () => {
    expect(await bench.create(plain("1.0.0"))).toBeUndefined();
    await bench.stable("1.0.0");
  });

  it("goes back at the deadline when its pods never run", async () => {
    const broken = { ...SHELL, args: ["exit 1"] };
    await bench.update(plain("2.0.0", (draft) => (draft["template"].spec.containers = [broken])));
    const why = /[01] replicas are available: main: .*exit code 1/;
    await bench.until("why its pods do not run", ({ message = "" }) => why.test(message));
    expect(await rolledBack("2.0.0")).toMatchObject({
      completionStatus: "RolledBack",
      reason: "ProgressDeadlineExceeded",
    });
  });

  it("says why its pods cannot be made", async () => {
    const { namespace } = bench;
    const QUOTAS = { group: "", version: "v1", plural: "resourcequotas", kind: "ResourceQuota" };
    await bench.api.create(QUOTAS, {
      metadata: { name: "hunt", namespace },
      ...{ spec: { hard: { pods: "0" } } },
    });
    try {
      await bench.update(plain("2.0.1"));
      await bench.until("the quota", ({ message = "" }) => message.includes("exceeded quota: hunt"));
      expect((await rolledBack("2.0.1"))?.message).toContain("exceeded quota: hunt");
    } finally {
      await bench.api.delete(QUOTAS, namespace, "hunt");
    }
  });

  it("goes back when its pods run, take over and keep ending, long before the deadline", async () => {
    const broken = { ...SHELL, args: ["sleep 1; exit 1"] };
    await bench.update(
      plain("2.1.0", (draft) => {
        draft["template"].spec.containers = [broken];
        draft["progressDeadlineSeconds"] = 600;
        draft["strategy"].canary.steps[1].pause = { duration: "10m" };
      }),
    );
    await bench.until("the pause", ({ currentStepIndex }) => currentStepIndex === 1);
    expect(await rolledBack("2.1.0")).toMatchObject({ reason: "CandidateUnavailable" });
  });

  it("goes back when a hard limit is passed, the first time", async () => {
    await bench.update(
      plain("3.0.0", (draft) => {
        draft["template"].spec.containers = [SHELL];
        draft["limits"] = [{ name: "loss", query: "vector(1001)", max: "1000" }];
        draft["strategy"].canary.steps[1].pause = {};
      }),
    );
    const entry = await rolledBack("3.0.0");
    expect(entry).toMatchObject({ reason: "AnalysisFailed" });
    expect(entry?.message).toContain("limit/loss: 1001 is above 1000");
  });

  it.each([
    ["without a number", () => (bench.errors = undefined), "no number"],
    ["with nobody who answers", () => {}, "fetch failed"],
  ])("holds %s, and goes back at the deadline: missing evidence is not success", async (what, make, says) => {
    make();
    const version = what.startsWith("without") ? "4.0.0" : "5.0.0";
    const nobody = { url: "http://127.0.0.1:9/{{revision}}", jsonPath: "data.errors" };
    const web = what.startsWith("without") ? bench.web() : nobody;
    const name = `evidence-${version.slice(0, 1)}`;
    await bench.template(name, {
      metrics: [
        { name: "m", interval: "1s", consecutiveErrorLimit: 0, threshold: { max: "1" }, provider: { web } },
      ],
    });
    await bench.update(
      plain(version, (draft) => {
        draft["limits"] = null;
        draft["strategy"] = {
          canary: { steps: [{ setWeight: 50 }, { analysis: { templates: [{ name }] } }] },
        };
      }),
    );
    const held = await bench.until("the hold", ({ message }) => message?.includes(says));
    expect(held.candidate?.version).toBe(version);
    expect(await rolledBack(version)).toMatchObject({ reason: "ProgressDeadlineExceeded" });
    bench.errors = 0;
  });

  it("goes on when the evidence comes back in time", async () => {
    let broken = true;
    const server = createServer((_, answer) => {
      if (broken) answer.writeHead(503).end("starting");
      else
        answer.end(
          JSON.stringify({
            status: "success",
            data: { resultType: "vector", result: [{ value: [Date.now() / 1_000, "0"] }] },
          }),
        );
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    await bench.template("prometheus", {
      metrics: [
        {
          name: "m",
          interval: "1s",
          count: 2,
          consecutiveErrorLimit: 0,
          threshold: { max: "1" },
          provider: { prometheus: { address: `http://127.0.0.1:${port}`, query: "up" } },
        },
      ],
    });
    await bench.update(
      plain("6.0.0", (draft) => {
        draft["progressDeadlineSeconds"] = 60;
        draft["strategy"] = {
          canary: { steps: [{ setWeight: 50 }, { analysis: { templates: [{ name: "prometheus" }] } }] },
        };
      }),
    );
    await bench.until("the hold", ({ message }) => message?.includes("HTTP 503"));
    broken = false;
    await bench.stable("6.0.0");
    server.close();
    server.closeAllConnections();
  });

  it("is held when Prometheus is killed, and goes on when it is there again", async () => {
    const prometheus = await startPrometheus();
    try {
      await bench.template("killed", {
        metrics: [
          {
            name: "m",
            interval: "1s",
            count: 6,
            consecutiveErrorLimit: 0,
            threshold: { min: "1" },
            provider: { prometheus: { address: prometheus.url, query: 'sum(up{job="itself"})' } },
          },
        ],
      });
      await bench.update(
        plain("7.0.0", (draft) => {
          draft["progressDeadlineSeconds"] = 60;
          draft["strategy"] = {
            canary: { steps: [{ setWeight: 50 }, { analysis: { templates: [{ name: "killed" }] } }] },
          };
        }),
      );
      await bench.until("a good measurement", ({ analysis }) =>
        analysis?.some(({ successes }) => successes > 0),
      );
      await prometheus.process.end("SIGKILL");
      const held = await bench.until("the hold", ({ conditions }) =>
        conditions?.some(({ type, reason }) => type === "Progressing" && reason === "Inconclusive"),
      );
      expect(held.candidate?.version).toBe("7.0.0");
      await prometheus.start();
      await bench.stable("7.0.0");
    } finally {
      await prometheus.close();
    }
  });
});

describe("a stream whose Kafka goes and comes back", { timeout: 120_000 }, () => {
  it("is held, with no deadline counted, and goes on afterwards", async () => {
    const other = new OperatorBench(inject("cluster"), { broker: brokers.addresses[0] as string });
    await other.open();
    try {
      const spec = (version: string) =>
        other.spec(version, (draft) => {
          draft["progressDeadlineSeconds"] = 20;
        });
      expect(await other.create(spec("1.0.0"))).toBeUndefined();
      await other.startStream();
      await other.stable("1.0.0");
      await brokers.brokers[0]?.end("SIGKILL");
      await other.until("Kafka to be missed", ({ conditions }) =>
        conditions?.some(({ type, reason }) => type === "StreamReady" && reason === "KafkaUnavailable"),
      );
      await other.update(spec("2.0.0"));
      const held = await other.until(
        "the hold",
        ({ phase, candidate }) => candidate !== undefined && phase !== "Healthy",
      );
      expect(held.stable?.version).toBe("1.0.0");
      // Nor does it need to have seen better days.
      await other.stopOperator();
      await other.startOperator();
      await sleep(8_000);
      await brokers.start(0);
      await other.until(
        "2.0.0 to be stable",
        ({ stable, phase }) => stable?.version === "2.0.0" && phase === "Healthy",
        90_000,
      );
    } finally {
      await other.close();
    }
  });
});
