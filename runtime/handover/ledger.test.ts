import { expect, it } from "vitest";
import { MemoryBroker } from "#runtime/bus/memory/broker.ts";
import { MemoryBus } from "#runtime/bus/memory/index.ts";
import { ensureDeploymentTopics, LedgerFollower, ledgerRecord } from "./ledger.ts";
import { partitionState } from "./rules.ts";

const PLACE = { topic: "md.crypto.main", partition: 0 };

it("shows who waits every state, also one that the next record of the same batch ends", async () => {
  const bus = new MemoryBus(new MemoryBroker());
  await ensureDeploymentTopics(bus, "d", { partitions: 1, replicas: 1 });
  const producer = await bus.transactionalProducer("w");
  const joined = (worker: string) =>
    ledgerRecord("d", { type: "joined", at: 1, revision: "a", ...PLACE, worker });
  const follower = new LedgerFollower({ bus, deployment: "d", onFatal: () => {} });
  const isJoined = (worker: string) =>
    follower.until((state) => partitionState(state, PLACE).workers.get("a") === worker);
  const both = Promise.all([isJoined("first"), isJoined("second")]);
  // As whoever was frozen for a while finds them.
  await producer.commit({ records: [joined("first"), joined("second")] });
  await follower.start();
  await expect(both).resolves.toBeDefined();
  await follower.close();
  await bus.close();
});
