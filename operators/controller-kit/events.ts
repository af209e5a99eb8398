import { createHash } from "node:crypto";
import type { KubeApi, KubeObject, Resource } from "./api.ts";

// Events for people, of which each is there once: what happens again is counted.

const EVENTS: Resource = { group: "", version: "v1", plural: "events", kind: "Event" };

export interface EventNote {
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

/** Different notes that are remembered; the oldest are forgotten first. */
const MAX_REMEMBERED = 2_000;
const MAX_MESSAGE = 1_000;

export class EventRecorder {
  readonly #api: Pick<KubeApi, "apply">;
  readonly #component: string;
  readonly #known = new Map<string, { count: number; readonly first: string }>();

  constructor(api: Pick<KubeApi, "apply">, component: string) {
    this.#api = api;
    this.#component = component;
  }

  /** Writes a note about an object. Its name follows from what it says: the same note again raises its count. */
  async record(object: KubeObject, note: EventNote, now: number): Promise<void> {
    const { name, namespace = "default", uid } = object.metadata;
    const message = note.message.slice(0, MAX_MESSAGE);
    const hash = createHash("sha256").update(`${uid} ${note.reason} ${message}`).digest("hex").slice(0, 16);
    const id = `${namespace}/${name}.${hash}`;
    const time = new Date(now).toISOString();
    const known = this.#known.get(id) ?? { count: 0, first: time };
    known.count += 1;
    this.#known.delete(id);
    this.#known.set(id, known);
    const oldest = this.#known.keys().next().value;
    if (this.#known.size > MAX_REMEMBERED && oldest !== undefined) this.#known.delete(oldest);
    const event: CoreEvent = {
      metadata: { name: `${name}.${hash}`, namespace },
      type: note.type,
      reason: note.reason,
      message,
      involvedObject: {
        apiVersion: object.apiVersion,
        kind: object.kind,
        name,
        namespace,
        uid,
        resourceVersion: object.metadata.resourceVersion,
      },
      source: { component: this.#component },
      firstTimestamp: known.first,
      lastTimestamp: time,
      count: known.count,
    };
    await this.#api.apply(EVENTS, event);
  }
}
