import { inject } from "vitest";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { busConformance } from "./bus.ts";
import { busProgressConformance } from "./bus-progress.ts";

const brokers = [`127.0.0.1:${inject("cluster").ports.kafka}`];
busConformance("Kafka", () => new KafkaBus({ brokers, clientId: "conformance" }));
busProgressConformance("Kafka", () => new KafkaBus({ brokers, clientId: "conformance" }));
