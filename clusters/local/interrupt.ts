import { LocalError } from "./errors.ts";

/** Exit code of what was ended by Ctrl-C, as shells have it. */
export const EXIT_INTERRUPTED = 130;

/**
 * Aborted by Ctrl-C, by SIGTERM and by the end of the terminal, with a LocalError INTERRUPTED. The process ends when it has
 * tidied up; further signals change nothing, for what is left by halves is worse than a few seconds.
 */
export function interruption(): AbortSignal {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(signal, () => stop.abort(new LocalError("INTERRUPTED", `interrupted by ${signal}`)));
  return stop.signal;
}
