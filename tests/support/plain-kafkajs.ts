import { createRequire } from "node:module";
import type * as KafkaJs from "kafkajs";
import { idleQueue, type Queues } from "#runtime/bus/kafka/library.ts";

// The client library as others use it: with none of our parts but the queue of requests, of whose timers Node warns.

function load(): typeof KafkaJs {
  const require = createRequire(import.meta.url);
  const isOurs = (path: string) => path.includes("/node_modules/kafkajs/");
  const paths = () => Object.keys(require.cache).filter(isOurs);
  const before = paths().map((path) => [path, require.cache[path]] as const);
  const forget = () => {
    for (const path of paths()) delete require.cache[path];
  };
  forget();
  const file = require.resolve("kafkajs/src/network/requestQueue/index.js");
  const queues = require(file) as Queues;
  const entry = require.cache[file];
  if (entry !== undefined) entry.exports = idleQueue(queues);
  const plain = require("kafkajs") as typeof KafkaJs;
  // The bus's copy loads parts of itself late, and must find its own.
  forget();
  for (const [path, module] of before) require.cache[path] = module;
  return plain;
}

export const kafkajs = load();
