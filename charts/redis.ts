import type { Chart } from "cdk8s";
import { addStateful } from "./stateful.ts";
import { imageOf, type Values } from "./values.ts";

const NAME = "redis";
const PORT = 6379;

/** Where services find Redis; undefined where the cluster itself says that. */
export function redisUrl({ redis, platformNamespace }: Values): string | undefined {
  switch (redis.provide) {
    case "cluster":
      return undefined;
    case "managed":
      return redis.url;
    case "single":
      return `redis://${NAME}.${platformNamespace}.svc:${PORT}`;
  }
}

/** Without a disk: features and caches are computed again from Kafka. */
export function addRedis(scope: Chart, values: Values): void {
  const { redis } = values;
  if (redis.provide !== "single") return;
  const memory = Math.floor(redis.resources.memoryMebibytes.limit * 0.75);
  const settings = [
    `port ${PORT}`,
    "bind * -::*",
    // Who may connect is decided by the network's policies.
    "protected-mode no",
    'save ""',
    "appendonly no",
    "dir /var/lib/redis",
    `maxmemory ${memory}mb`,
    // What has no end, such as the kill switch, is never thrown out for what has one.
    "maxmemory-policy volatile-lru",
  ];
  addStateful(scope, {
    name: NAME,
    image: imageOf(values, "redis"),
    command: ["redis-server", "/etc/redis/redis.conf"],
    ports: [{ name: "redis", number: PORT }],
    files: { "redis.conf": settings.map((line) => `${line}\n`).join("") },
    filesAt: "/etc/redis",
    dataAt: "/var/lib/redis",
    storageGibibytes: undefined,
    resources: redis.resources,
  });
}
