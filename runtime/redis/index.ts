import { Redis } from "ioredis";

export type { Redis } from "ioredis";

/**
 * A connection to Redis that is tried for ever. A command fails at once without one, and after `timeoutMs` without an
 * answer, rather than wait in a queue; each command reports its own failure.
 */
export function connectRedis(url: string, timeoutMs?: number): Redis {
  const redis = new Redis(url, {
    connectTimeout: 1_000,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    retryStrategy: (times) => Math.min(1_000, 20 * 2 ** Math.min(times, 6)),
    keepAlive: 5_000,
    ...(timeoutMs === undefined ? {} : { commandTimeout: timeoutMs }),
  });
  redis.on("error", () => {});
  return redis;
}
