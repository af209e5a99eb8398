import type { Api, KubeObject } from "#operators/controller-kit/api.ts";
import { type EventNote, recordEvent } from "#operators/controller-kit/events.ts";
import type { ModelDeploymentStatus } from "../api/status.ts";
import type { Note } from "../core/observed.ts";
import type { Notifier } from "./notify.ts";

// What status notes becomes events and notifications. Sent at least once: notes are written with the decision that they
// tell of, and an operator that takes over sends those again of which it cannot know.

/** What is older is no longer told. */
const MAX_AGE_MS = 15 * 60_000;

export class Publisher {
  readonly #api: Pick<Api, "apply">;
  readonly #notifier: Notifier | undefined;
  /** Number of the last note that was sent, by the object's uid. */
  readonly #sent = new Map<string, number>();

  constructor(api: Pick<Api, "apply">, notifier: Notifier | undefined) {
    this.#api = api;
    this.#notifier = notifier;
  }

  /** For status: what need not be sent again. */
  published({ metadata }: KubeObject, status: ModelDeploymentStatus): number | undefined {
    return this.#sent.get(metadata.uid ?? "") ?? status.published;
  }

  /** Sends what has not been sent. Rejects when the API server does not take an event: it is tried again. */
  async publish(object: KubeObject, status: ModelDeploymentStatus, now: number): Promise<void> {
    const { uid = "" } = object.metadata;
    for (const note of status.notes ?? []) {
      if (note.id <= (this.#sent.get(uid) ?? status.published ?? 0)) continue;
      if (now - Date.parse(note.at) < MAX_AGE_MS) {
        await this.#send(object, status, { ...note, id: String(note.id) });
      }
      this.#sent.set(uid, note.id);
    }
  }

  /** Sends what status has no room for: once, and as well as it can be done. */
  async announce(
    object: KubeObject,
    status: ModelDeploymentStatus,
    notes: readonly Note[],
    now: number,
  ): Promise<void> {
    const at = new Date(now).toISOString();
    for (const note of notes) {
      const id = `${note.reason} ${at}`;
      await this.#send(object, status, { ...note, id, at }).catch(() => {});
    }
  }

  async #send(object: KubeObject, status: ModelDeploymentStatus, note: EventNote): Promise<void> {
    const { uid = "", name, namespace = "" } = object.metadata;
    await recordEvent(this.#api, "baton", object, note);
    this.#notifier?.send({
      id: `${uid}/${note.id}`,
      namespace,
      name,
      reason: note.reason,
      message: note.message,
      phase: status.phase ?? "",
      stable: status.stable?.version ?? "",
      candidate: status.candidate?.version ?? "",
      at: note.at,
    });
  }

  forget(uid: string): void {
    this.#sent.delete(uid);
  }
}
