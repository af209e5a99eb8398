const PART = /^[a-zA-Z0-9_-]{1,64}$/;

function part(what: string, value: string): string {
  if (!PART.test(value)) throw new Error(`${what} ${JSON.stringify(value)} cannot be part of a topic's name`);
  return value;
}

/**
 * Names of topics, in one place. Market data has a topic an instrument, or a topic a group of instruments with
 * the instrument as the record's key.
 */
export const topics = {
  /** md.<asset_class>.<instrument or group> */
  marketData: (assetClass: string, instrumentOrGroup: string) =>
    `md.${part("asset class", assetClass)}.${part("instrument", instrumentOrGroup)}`,
  /** signals.<deployment>: live decisions */
  signals: (deployment: string) => `signals.${part("deployment", deployment)}`,
  /** baton.shadow.<deployment>: decisions of revisions that do not own the instrument */
  shadow: (deployment: string) => `baton.shadow.${part("deployment", deployment)}`,
  /** baton.ledger.<deployment>: who decides what; one partition, written in transactions */
  ledger: (deployment: string) => `baton.ledger.${part("deployment", deployment)}`,
  /** baton.control.<deployment>: the kill switch; one partition, never written in transactions */
  control: (deployment: string) => `baton.control.${part("deployment", deployment)}`,
  /** baton.dlq.<service>: records that a service could not use, with the reason */
  deadLetters: (service: string) => `baton.dlq.${part("service", service)}`,
  orders: "orders.execution",
  riskAlerts: "risk.alerts",
} as const;
