import type { CanaryStep, Gate } from "../api/model-deployment.ts";
import type { Approval } from "../api/status.ts";

// Where a release waits for people.

/** A gate that is not open yet, and who has approved. */
export interface Closed {
  readonly gate: Gate;
  readonly by: readonly string[];
}

/** The gates that lack approvals. */
export function closedGates(gates: readonly Gate[], approvals: readonly Approval[]): readonly Closed[] {
  return gates
    .map((gate) => ({
      gate,
      by: approvals.filter((approval) => approval.gate === gate.name).map(({ by }) => by),
    }))
    .filter(({ gate, by }) => by.length < gate.approvals);
}

/**
 * The gate that a release waits at: one before its start wherever it stands, so that no step can be skipped past it, one
 * before its promotion where the next thing would give it everything.
 */
export function gateAt(
  closed: readonly Closed[],
  steps: readonly CanaryStep[],
  index: number,
): Closed | undefined {
  const step = steps[index];
  const { all, volumeShare } = step?.setInstruments ?? {};
  const givesAll =
    step === undefined || step.setWeight === 100 || all === true || Number(volumeShare ?? 0) >= 1;
  return closed.find(({ gate }) => gate.before === "Start" || givesAll);
}

export function describeGate({ gate, by }: Closed): string {
  const so = by.length === 0 ? "" : `, so far by ${by.join(", ")}`;
  return `waits at the gate ${gate.name}: ${by.length} of ${gate.approvals} approvals${so}`;
}
