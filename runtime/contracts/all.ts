import { Halt, Ledger } from "./ledger.ts";
import { DecisionLog, Intent, MarketData, Opportunity, RiskAlert, Signal } from "./messages.ts";

/** Every contract in its current version. */
export const CONTRACTS = [
  MarketData,
  Signal,
  Opportunity,
  Intent,
  DecisionLog,
  RiskAlert,
  Ledger,
  Halt,
] as const;
