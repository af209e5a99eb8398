import { createHash } from "node:crypto";
import type { Api, KubeObject, Resource } from "./api.ts";
import { cut } from "./text.ts";

// Events for people. Each has an identity: recorded again, also by another operator, it is still one event.

const EVENTS: Resource = { group: "", version: "v1", plural: "events", kind: "Event" };

export interface EventNote {
  /** Tells it from the object's other events. */
  readonly id: string;
  /** When it happened, as RFC 3339. */
  readonly at: string;
  readonly type: "Normal" | "Warning";
  /** One word, such as RolledBack. */
  readonly reason: string;
  readonly message: string;
}

interface CoreEvent extends KubeObject {
  readonly type: string;
  readonly reason: string;
  readonly message: string;
  readonly involvedObject: object;
  readonly source: object;
  readonly firstTimestamp: string;
  readonly lastTimestamp: string;
  readonly count: number;
}

const MAX_MESSAGE = 1_000;

/** Writes a note about an object. Its name and content follow from the note alone: the same one again changes nothing. */
export async function recordEvent(
  api: Pick<Api, "apply">,
  component: string,
  object: KubeObject,
  note: EventNote,
): Promise<void> {
  const { name, namespace = "default", uid } = object.metadata;
  const hash = createHash("sha256").update(`${uid} ${note.id}`).digest("hex").slice(0, 16);
  const { apiVersion, kind } = object;
  const event: CoreEvent = {
    metadata: { name: `${name}.${hash}`, namespace },
    type: note.type,
    reason: note.reason,
    message: cut(note.message, MAX_MESSAGE),
    involvedObject: { apiVersion, kind, name, namespace, uid },
    source: { component },
    firstTimestamp: note.at,
    lastTimestamp: note.at,
    count: 1,
  };
  await api.apply(EVENTS, event);
}
