export * from "./admission.ts";
export * from "./contract.ts";
export * from "./ledger.ts";
export * from "./messages.ts";
export { topics } from "./topics.ts";
