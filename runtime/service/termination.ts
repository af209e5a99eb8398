import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";

/** Where Kubernetes reads why a container has ended: the default of `terminationMessagePath`. */
const TERMINATION_LOG = "/dev/termination-log";
/** Kubernetes keeps 4 KiB. */
const MAX_CHARS = 1_024;

/** Leaves a message for whoever asks why the container ended; does nothing where nobody has made the file for it. */
export function leaveTerminationMessage(message: string, path = TERMINATION_LOG): void {
  let file: number | undefined;
  try {
    // Not made where it is not there: that is no container.
    file = openSync(path, "r+");
    ftruncateSync(file);
    writeSync(file, message.slice(0, MAX_CHARS));
  } catch {
    // The log has it too.
  } finally {
    if (file !== undefined) closeSync(file);
  }
}
