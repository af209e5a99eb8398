import { MemoryBroker } from "#runtime/bus/memory/broker.ts";
import { MemoryBus } from "#runtime/bus/memory/index.ts";
import { busConformance } from "./bus.ts";

const broker = new MemoryBroker();
busConformance("memory", () => new MemoryBus(broker));
