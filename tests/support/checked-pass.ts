import assert from "node:assert/strict";
import type { World } from "./deployment-world.ts";

/** One pass, and what must hold of it. Yields the number of things that it did. */
export function checkedPass(world: World, crash = false): number {
  const before = world.status;
  const owners = new Map(world.owners);
  const available = new Map([...world.pods].map(([revision, pods]) => [revision, pods.available]));
  const { effects } = world.pass(crash);
  const condemned =
    before.decision !== undefined && before.decision.kind !== "Promote"
      ? before.decision.revision
      : undefined;
  for (const effect of effects) {
    if (effect.kind === "Route") {
      assert(effect.to !== condemned, "the candidate gains after it was decided that it goes");
      assert((world.pods.get(effect.to)?.available ?? 0) > 0, "something is given to one without pods");
      assert(world.reachable, "something is moved while Kafka does not answer");
      const forward = effect.to === before.candidate?.revision;
      assert(!(forward && world.halted), "the candidate gains while the kill switch is on");
    }
    if ((effect.kind === "Scale" && effect.replicas === 0) || effect.kind === "DeleteRevision") {
      // One without pods decides on nothing, whatever it owns.
      const owns =
        [...owners.values()].includes(effect.revision) && (available.get(effect.revision) ?? 0) > 0;
      assert(!owns, `${effect.revision} is taken down and decides`);
    }
  }
  const { status } = world;
  if (before.decision === undefined && status.decision !== undefined)
    assert.equal(effects.length, 0, "a decision is acted on from the next pass on");
  if (before.decision !== undefined && status.decision === undefined)
    assert.equal(status.history?.[0]?.revision, before.decision.revision, "what was decided is forgotten");
  const candidate = status.candidate?.revision;
  if (status.stable !== undefined && candidate !== undefined)
    assert(status.condemned?.includes(candidate) !== true, "a condemned revision is a candidate");
  const { weight = 0 } = status;
  assert(weight >= 0 && weight <= 100, `a weight of ${weight}`);
  return effects.length;
}
