import { expect, it } from "vitest";
import { murmur2, partitionOf } from "./partitioner.ts";

// Printed by org.apache.kafka.common.utils.Utils.toPositive(Utils.murmur2(key)) of Kafka 4.3.1.
const JAVA = {
  BTCUSDT: 1305770258,
  ETHUSDT: 616678109,
  SOLUSDT: 1297545705,
  "": 275646681,
  a: 584102524,
  ab: 316155434,
  abc: 479470107,
  abcd: 823834100,
  "µ✓": 1474358397,
};

it("hashes as Kafka's Java client does, for every length of the tail", () => {
  for (const [key, hash] of Object.entries(JAVA))
    expect([key, murmur2(new TextEncoder().encode(key))]).toEqual([key, hash]);
});

it("maps a key to the same partition from memory as at first sight", () => {
  expect([partitionOf("BTCUSDT", 12), partitionOf("BTCUSDT", 12)]).toEqual([
    JAVA.BTCUSDT % 12,
    JAVA.BTCUSDT % 12,
  ]);
});
