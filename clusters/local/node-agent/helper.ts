import { type ChildProcess, type IOType, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import * as z from "zod";
import type { ProcessIdentity } from "./security.ts";

// What the agent and baton-container (toolchain/go/container) say to each other.

/** How much of its own a container gets; the words are those of {@link ContainerSpec.mode}. */
export type IsolationMode = "namespaces" | "user-namespaces" | "none";

export interface Mount {
  /** Where the container sees it. */
  readonly path: string;
  /** Where it is on the machine, if that is elsewhere. */
  readonly from?: string;
  /** `hide` puts an empty folder in its place. */
  readonly kind: "read" | "write" | "hide";
}

export interface ContainerSpec {
  readonly mode: IsolationMode;
  readonly args: readonly string[];
  /** NAME=value */
  readonly env: readonly string[];
  readonly cwd: string;
  readonly hostname: string;
  readonly process: ProcessIdentity;
  /** An empty folder that the container's root is mounted on, in the container's view only. */
  readonly root: string;
  readonly mounts: readonly Mount[];
  readonly log: { readonly path: string; readonly maxBytes: number };
}

const eventSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("started"), init: z.int().default(0), pid: z.int().default(0) }),
  z.object({ kind: z.literal("ended"), code: z.int(), signal: z.int().optional() }),
  z.object({ kind: z.literal("failed"), code: z.int(), message: z.string() }),
]);
type Event = z.infer<typeof eventSchema>;
export type Started = Extract<Event, { kind: "started" }>;
/** How a container ended; `failed` is one that could not be started. */
export type End = Exclude<Event, Started>;

/** A container that runs beside its baton-container, which ends it when the agent ends. */
export class ContainerProcess {
  readonly ended: Promise<End>;
  readonly #child: ChildProcess;
  #started: Started | undefined;

  constructor(helper: string, spec: ContainerSpec, onStarted: (started: Started) => void = () => {}) {
    // A group of its own: Ctrl-C is for the agent, which then stops its containers in order.
    this.#child = spawn(helper, ["run"], { stdio: ["pipe", "pipe", "inherit"], detached: true, env: {} });
    // It has ended by itself: that it did is said by its last event.
    this.#child.stdin?.on("error", () => {});
    this.ended = this.#follow(onStarted);
    this.#say(spec);
  }

  /** Process 1 of the container and its program; undefined before they are there. */
  get started(): Started | undefined {
    return this.#started;
  }

  /** TERM is for the program, KILL for everything in the container. */
  signal(signal: "TERM" | "KILL"): void {
    this.#say({ signal });
  }

  #say(message: object): void {
    this.#child.stdin?.write(`${JSON.stringify(message)}\n`);
  }

  #follow(onStarted: (started: Started) => void): Promise<End> {
    let end: End | undefined;
    return new Promise((resolve) => {
      createInterface({ input: this.#child.stdout as Readable }).on("line", (line) => {
        const parsed = parseEvent(line);
        if (parsed?.kind === "started") {
          this.#started = parsed;
          onStarted(parsed);
        } else if (parsed !== undefined) end = parsed;
      });
      const failed = (message: string) => ({ kind: "failed", code: 128, message }) as const;
      this.#child.once("error", (error) => resolve(failed(error.message)));
      // Not "exit": what it said last may still be on its way.
      this.#child.once("close", (_code, signal) => {
        resolve(
          end ??
            (signal === null
              ? failed("baton-container ended without a word")
              : { kind: "ended", code: 137, signal: 9 }),
        );
      });
    });
  }
}

function parseEvent(line: string): Event | undefined {
  try {
    return eventSchema.parse(JSON.parse(line));
  } catch {
    return undefined;
  }
}

/** What another program in a container needs to know of it. */
export type ExecSpec = Pick<ContainerSpec, "mode" | "args" | "env" | "cwd" | "process">;

const NSENTER = "/usr/bin/nsenter";
/** Where a container finds baton-container. */
const HELPER_INSIDE = "/run/baton-container";

/** Command line that runs `exec` of baton-container among the namespaces of a container, by its process 1. */
export function enterCommand(helper: string, mode: IsolationMode, init: number): [string, string[]] {
  if (mode === "none") return [helper, ["exec"]];
  const user = mode === "user-namespaces" ? ["--user", "--preserve-credentials"] : [];
  const namespaces = ["--mount", "--pid", "--ipc", "--uts", ...user];
  return [NSENTER, [`--target=${init}`, ...namespaces, "--", HELPER_INSIDE, "exec"]];
}

/** Runs another program in a container, as its user and with its rights; end it by its process group. */
export function execIn(helper: string, init: number, spec: ExecSpec, stdio: IOType): ChildProcess {
  const [command, args] = enterCommand(helper, spec.mode, init);
  const child = spawn(command, args, { stdio: [stdio, stdio, stdio, "pipe"], detached: true, env: {} });
  const pipe = child.stdio[3] as Writable;
  pipe.on("error", () => {});
  pipe.end(JSON.stringify(spec));
  return child;
}
