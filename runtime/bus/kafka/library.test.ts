import { createRequire } from "node:module";
import { afterEach, describe, expect, it, vi } from "vitest";
import {
  type Broker,
  type Brokers,
  idleQueue,
  type Pool,
  type Pools,
  type Queues,
  readyBroker,
  steadyPool,
} from "./library.ts";

// Each beside the library as it is, so that the day it is mended ours can go.

const require = createRequire(import.meta.url);
// What has been loaded has ours in it.
for (const path of Object.keys(require.cache)) if (path.includes("/kafkajs/")) delete require.cache[path];
const TheirBroker = require("kafkajs/src/broker/index.js") as Brokers;
const TheirPool = require("kafkajs/src/cluster/brokerPool.js") as Pools;

const TheirQueue = require("kafkajs/src/network/requestQueue/index.js") as Queues;

const log = () => {};
const logger = { debug: log, error: log, namespace: () => logger };
const ADDRESS = { host: "127.0.0.1", port: 9092 };

/** Connections that are there, and answer what the broker understands when they are told to. */
function connections() {
  const { promise: answered, resolve: answer } = Promise.withResolvers<object>();
  const connection = { getSupportAuthenticationProtocol: () => true, authenticate: async () => {} };
  return {
    answer: () => answer({ apiVersions: [] }),
    pool: {
      ...ADDRESS,
      connectionTimeout: 1_000,
      isConnected: () => true,
      getConnection: async () => connection,
      send: () => answered,
      setVersions: () => {},
      destroy: async () => {},
    },
  };
}

describe("a broker that is being connected", () => {
  const connecting = (Kind: Brokers) => {
    const { pool, answer } = connections();
    const broker = new Kind({ connectionPool: pool, logger });
    return { broker, answer, connected: broker.isConnected.bind(broker) };
  };

  it("can be asked when it has said what it understands", async () => {
    const { broker, answer, connected } = connecting(readyBroker(TheirBroker));
    expect(connected()).toBe(false);
    const done = broker.connect();
    await Promise.resolve();
    expect(connected()).toBe(false);
    answer();
    await done;
    expect(connected()).toBe(true);
  });

  it("says so before that in the library", () => {
    expect(connecting(TheirBroker).connected()).toBe(true);
  });
});

describe("a pool whose only broker is lost", () => {
  const lost = (Kind: Pools): Pool => {
    const pool = new Kind({ connectionPoolBuilder: {}, logger });
    const seed = { ...connections(), nodeId: 0, connectionPool: ADDRESS } as unknown as Broker;
    pool.seedBroker = seed;
    pool.brokers = { 0: seed };
    pool.removeBroker(ADDRESS);
    return pool;
  };

  it("still has somebody to ask", () => {
    expect(lost(steadyPool(TheirPool)).seedBroker).toBeDefined();
  });

  it("has nobody in the library", () => {
    expect(lost(TheirPool).seedBroker).toBeUndefined();
  });
});

describe("a pool whose seed is replaced while somebody connects to it", () => {
  const replaced = (Kind: Pools): Pool => {
    const seed = (connected: boolean) => ({ isConnected: () => connected }) as Broker;
    const pool = new Kind({ connectionPoolBuilder: {}, logger });
    let times = 0;
    pool.connect = async () => {
      pool.seedBroker = seed(times > 0);
      times += 1;
    };
    return pool;
  };

  it("hands out one that is connected", async () => {
    const broker = await replaced(steadyPool(TheirPool)).findConnectedBroker();
    expect(broker.isConnected()).toBe(true);
  });

  it("hands out the one that is not in the library", async () => {
    const broker = await replaced(TheirPool).findConnectedBroker();
    expect(broker.isConnected()).toBe(false);
  });
});

describe("a queue of requests", () => {
  interface Answered {
    readonly pending: unknown[];
    throttledUntil: number;
    push(request: object): void;
    checkPendingRequests(): void;
    destroy(): void;
  }
  const queue = (Kind: Queues) =>
    new Kind({ logger, maxInFlightRequests: null, requestTimeout: 1_000 }) as unknown as Answered;
  const request = (sendRequest: () => void) => ({
    entry: { correlationId: 1 },
    expectResponse: true,
    sendRequest,
  });

  afterEach(() => {
    vi.restoreAllMocks();
  });

  it("sets no timer where nothing waits", () => {
    const timer = vi.spyOn(globalThis, "setTimeout");
    queue(idleQueue(TheirQueue)).checkPendingRequests();
    expect(timer).not.toHaveBeenCalled();
  });

  it("sends what waited for the end of a throttling", async () => {
    const throttled = queue(idleQueue(TheirQueue));
    throttled.throttledUntil = Date.now() + 20;
    await new Promise<void>((resolve) => throttled.push(request(resolve)));
    expect(Date.now()).toBeGreaterThanOrEqual(throttled.throttledUntil);
    throttled.destroy();
  });

  it("sets one to a time that is past in the library", () => {
    const timer = vi.spyOn(globalThis, "setTimeout").mockReturnValue(0 as unknown as NodeJS.Timeout);
    queue(TheirQueue).checkPendingRequests();
    expect(timer.mock.calls[0]?.[1]).toBeLessThan(0);
  });
});
