import { anewOffset, type PartitionState, predecessors, startOffset } from "#runtime/handover/rules.ts";
import { Breach, type ModelConfig, REVS, type Rev } from "./state.ts";

// Where a revision of the model begins, by the production rules, or by those without one of them.

/** `written` is how far it has come, undefined before it has begun; `positions` are those of all revisions, -1 for none. */
export function beginningOf(
  { without, messages }: ModelConfig,
  local: PartitionState,
  rev: Rev,
  written: number | undefined,
  positions: readonly number[],
): bigint | undefined {
  const others = [...predecessors(local)].flatMap((other) => {
    const position = positions[REVS.indexOf(other as Rev)] ?? -1;
    return other === rev || position < 0 ? [] : BigInt(position);
  });
  const bounds = without === "the owners' positions" ? [BigInt(messages.length)] : others;
  let known = local;
  if (without === "the cuts") known = { ...known, moves: [] };
  if (without === "its own") {
    const holdings = [...known.holdings].map(
      ([key, holding]) => [key, { ...holding, revision: "" }] as const,
    );
    known = { ...known, holdings: new Map(holdings) };
  }
  if (written === undefined) return startOffset(known, rev, bounds) ?? 0n;
  return anewOffset(known, rev, BigInt(written), bounds, 0n);
}

/** Whoever is to take over has computed what it is to make live. */
export function checkBegun({ moves: [first, second], started }: PartitionState, rev: Rev, id: string): void {
  const begun = started.get(rev)?.offset ?? 0n;
  if (first?.to !== rev || first.cut === undefined || second !== undefined) return;
  const fill = first.filled ?? first.cut;
  if (fill < begun) throw new Breach(`${id} is to take over at ${fill}, before where it began, ${begun}`);
}
