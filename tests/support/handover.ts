import { pino } from "pino";
import { Registry } from "prom-client";
import type { Bus, InRecord } from "#runtime/bus/port.ts";
import type { Halt } from "#runtime/contracts/ledger.ts";
import { Conductor } from "#runtime/handover/conductor.ts";
import type { HaltCache } from "#runtime/handover/halt.ts";
import { ensureDeploymentTopics } from "#runtime/handover/ledger.ts";
import type { Place } from "#runtime/handover/rules.ts";
import { type Decided, DecisionWorker, type WorkerOptions } from "#runtime/handover/worker.ts";

/** Every partition of a topic. */
export async function placesOf(bus: Bus, topic: string): Promise<Place[]> {
  const count = await (await bus.admin()).partitions(topic);
  return Array.from({ length: count }, (_, partition) => ({ topic, partition }));
}

/** Makes a revision the first owner of everything, before or after its workers begin. */
export async function claim(
  bus: Bus,
  deployment: string,
  revision: string,
  topic: string,
  outputPartitions = 4,
): Promise<void> {
  await ensureDeploymentTopics(bus, deployment, { partitions: outputPartitions, replicas: 1 });
  const conductor = new Conductor({ bus, deployment });
  await conductor.start();
  const partitions = await placesOf(bus, topic);
  await conductor.request({ epoch: 1, instruments: ["*"], from: null, to: revision, partitions });
  await conductor.close();
}

/** The kill switch's copy, in memory. */
export function memoryHaltCache(): HaltCache {
  let halt: Halt | undefined;
  return {
    get: async () => halt,
    set: async (next) => {
      halt = next;
    },
    close: () => {},
  };
}

/** Every message yields a decision that names the revision. */
export function echo(revision: string, records: readonly InRecord[]): Decided[] {
  return records.map(({ key, value, offset }) => ({
    instrument: key ?? "",
    kind: value?.toString() === "poison" ? "rejected" : "decision",
    key,
    value: Buffer.from(`${revision}:${offset}`),
    headers: {},
  }));
}

/** A worker in this process whose every message yields a decision that names its revision. */
export function echoWorker(
  options: Pick<WorkerOptions, "bus" | "deployment" | "revision" | "topics"> & Partial<WorkerOptions>,
): DecisionWorker {
  return new DecisionWorker({
    modelDigest: "sha256:echo",
    from: "earliest",
    haltCache: memoryHaltCache(),
    decide: async ({ records }) => echo(options.revision, records),
    registry: new Registry(),
    log: pino({ level: "silent" }),
    fatal: (error) => {
      throw error;
    },
    ...options,
  });
}
