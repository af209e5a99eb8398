import { describe, expect, it, vi } from "vitest";
import { busError } from "./client.ts";
import { rememberingCoordinators } from "./coordinator.ts";

// What becomes of a transaction when its coordinator's connection goes: nobody may go on as if nothing had happened.

function broker() {
  const ask = vi.fn(async (): Promise<unknown> => "done");
  const one = { connected: true, ask };
  const requests = ["initProducerId", "addPartitionsToTxn", "addOffsetsToTxn", "txnOffsetCommit", "endTxn"];
  return Object.assign(one, {
    isConnected: () => one.connected,
    ...(Object.fromEntries(requests.map((name) => [name, ask])) as Record<
      "initProducerId" | "addPartitionsToTxn" | "addOffsetsToTxn" | "txnOffsetCommit" | "endTxn",
      typeof ask
    >),
  });
}

const transactions = { groupId: "tx", coordinatorType: 1 };
const group = { groupId: "g", coordinatorType: 0 };
const lost = () => Object.assign(new Error("Connection closed"), { name: "KafkaJSConnectionClosedError" });
const refused = (type: string) => Object.assign(new Error(type), { type });

function setUp() {
  const brokers = [broker(), broker()];
  const find = vi.fn(async () => brokers[find.mock.calls.length - 1] as ReturnType<typeof broker>);
  const cluster = rememberingCoordinators({ findGroupCoordinator: find } as never) as unknown as {
    findGroupCoordinator(id: object): Promise<Record<string, (request: unknown) => Promise<unknown>>>;
  };
  return { brokers, find, cluster };
}
const codeOf = (asked: Promise<unknown> | undefined) =>
  asked?.then(
    () => "done",
    (error: unknown) => busError(error, "TRANSACTION_FAILED").code,
  );

describe("a transaction's coordinator", () => {
  it("is looked up once, and asked again at once while it is busy", async () => {
    const { brokers, find, cluster } = setUp();
    const coordinator = await cluster.findGroupCoordinator(transactions);
    brokers[0]?.ask.mockRejectedValueOnce(refused("CONCURRENT_TRANSACTIONS"));
    await coordinator["addPartitionsToTxn"]?.({});
    await coordinator["endTxn"]?.({});
    expect(find).toHaveBeenCalledTimes(1);
    expect(brokers[0]?.ask).toHaveBeenCalledTimes(3);
  });

  it("is looked up again when it says that it has moved", async () => {
    const { brokers, find, cluster } = setUp();
    const coordinator = await cluster.findGroupCoordinator(transactions);
    brokers[0]?.ask.mockRejectedValueOnce(refused("NOT_COORDINATOR_FOR_GROUP"));
    expect(await codeOf(coordinator["endTxn"]?.({}))).toBe("done");
    expect(find).toHaveBeenCalledTimes(2);
  });

  it.each(["addPartitionsToTxn", "addOffsetsToTxn", "endTxn"])(
    "that is lost during %s leaves the transaction uncertain",
    async (request) => {
      const { brokers, cluster } = setUp();
      const coordinator = await cluster.findGroupCoordinator(transactions);
      await coordinator["initProducerId"]?.({});
      brokers[0]?.ask.mockRejectedValueOnce(lost());
      const asked = coordinator[request]?.({});
      // Or kafkajs would go on by itself.
      await expect(asked).rejects.toMatchObject({ retriable: false });
      expect(await codeOf(asked)).toBe("UNCERTAIN");
    },
  );

  it("that was lost after its answer leaves that uncertain, unless it is long ago", async () => {
    const { brokers, cluster } = setUp();
    const coordinator = await cluster.findGroupCoordinator(transactions);
    await coordinator["endTxn"]?.({});
    if (brokers[0] !== undefined) brokers[0].connected = false;
    expect(await codeOf(coordinator["addPartitionsToTxn"]?.({}))).toBe("UNCERTAIN");
    vi.useFakeTimers({ now: Date.now() + 61_000, toFake: ["Date"] });
    expect(await codeOf(coordinator["addPartitionsToTxn"]?.({}))).toBe("done");
    vi.useRealTimers();
  });

  it("may be lost while a producer id is asked for, and so may a group's: those are asked again", async () => {
    const { brokers, cluster } = setUp();
    const coordinator = await cluster.findGroupCoordinator(transactions);
    await coordinator["initProducerId"]?.({});
    if (brokers[0] !== undefined) brokers[0].connected = false;
    expect(await codeOf(coordinator["initProducerId"]?.({}))).toBe("done");
    const other = setUp();
    const groups = await other.cluster.findGroupCoordinator(group);
    await groups["txnOffsetCommit"]?.({});
    if (other.brokers[0] !== undefined) other.brokers[0].connected = false;
    expect(await codeOf(groups["txnOffsetCommit"]?.({}))).toBe("done");
  });
});
