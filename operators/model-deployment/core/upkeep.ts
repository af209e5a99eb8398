import type { Effect, Observed } from "./observed.ts";
import { templateOf } from "./revision.ts";

// What is seen to whatever becomes of a release: revisions stay as they were made.

/** Also what keeps revisions as they were made: what others delete or edit comes back. */
export function withUpkeep({ object, revisions }: Observed, effects: readonly Effect[]): readonly Effect[] {
  const scaled = effects.filter((effect) => effect.kind === "Scale");
  const ends = new Set(
    effects.flatMap((effect) => (effect.kind === "DeleteRevision" ? [effect.revision] : [])),
  );
  const kept = revisions.filter(({ revision }) => !ends.has(revision));
  // A revision has its disruption budget before it has pods.
  const made = scaled.filter(
    ({ revision, template }) => template === "spec" && revisions.every((view) => view.revision !== revision),
  );
  const unprotected = [...made, ...kept.filter(({ budget }) => budget !== undefined)];
  // Nobody says any more how those were made that the spec no longer describes.
  const edited = kept.filter(
    ({ revision, edited: is }) =>
      is === true &&
      templateOf(object.spec, revision) === "spec" &&
      scaled.every((effect) => effect.revision !== revision),
  );
  return [
    ...unprotected.map(({ revision }): Effect => ({ kind: "Protect", revision })),
    ...edited.map(
      ({ revision, replicas }): Effect => ({ kind: "Scale", revision, replicas, template: "spec" }),
    ),
    ...effects,
  ];
}
