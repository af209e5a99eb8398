import { MemoryBroker } from "#runtime/bus/memory/broker.ts";
import { MemoryBus } from "#runtime/bus/memory/index.ts";
import { busConformance } from "./bus.ts";
import { busProgressConformance } from "./bus-progress.ts";

const broker = new MemoryBroker();
busConformance("memory", () => new MemoryBus(broker));
busProgressConformance("memory", () => new MemoryBus(broker));
