import { setTimeout as sleep } from "node:timers/promises";
import type { KubeConfig } from "@kubernetes/client-node";
import { KubeApi, type Resource } from "#operators/controller-kit/api.ts";
import { ApiError } from "#operators/controller-kit/errors.ts";

// The API server with watches that fail at one of their events, counted over all of them.

export const WATCH_FAULTS = [
  /** The connection breaks before the event. */
  "cut",
  /** It breaks in the middle of the event. */
  "half",
  /** The server has forgotten where the watch was, and says 410 instead. */
  "gone",
  /** The event comes twice. */
  "twice",
  /** The event before it comes once more, after it. */
  "stale",
  /** Nothing comes for three seconds. */
  "silent",
] as const;
export type WatchFault = (typeof WATCH_FAULTS)[number];

const SILENT_MS = 3_000;

export class FlakyApi extends KubeApi {
  readonly #at: number | undefined;
  readonly #fault: WatchFault | undefined;
  /** Events that have been on their way. */
  events = 0;

  constructor(config: KubeConfig, at?: { readonly event: number; readonly fault: WatchFault }) {
    super(config, { fieldManager: "baton" });
    this.#at = at?.event;
    this.#fault = at?.fault;
  }

  override async *watch(
    resource: Resource,
    ...rest: [
      string | undefined,
      Readonly<Record<string, string | number | boolean | undefined>>,
      number,
      AbortSignal,
    ]
  ): AsyncGenerator<string> {
    let before: string | undefined;
    for await (const line of super.watch(resource, ...rest)) {
      this.events += 1;
      const fault = this.events === this.#at ? this.#fault : undefined;
      switch (fault) {
        case "cut":
          throw new ApiError("Transient", 0, "cut by the test");
        case "half":
          yield line.slice(0, line.length / 2);
          break;
        case "gone":
          yield JSON.stringify({ type: "ERROR", object: { code: 410, message: "too old, says the test" } });
          break;
        case "twice":
          yield line;
          yield line;
          break;
        case "stale":
          yield line;
          if (before !== undefined) yield before;
          break;
        case "silent":
          await sleep(SILENT_MS);
          yield line;
          break;
        default:
          yield line;
      }
      before = line;
    }
  }
}
