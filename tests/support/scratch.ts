import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

// What a run of the tests leaves on the machine is found by one mark: its temporary folder is named after the process that
// owns the run, and an environment variable that every process of the run inherits holds the name. So nobody who makes a
// folder or a process has to remember it, and what was killed is found by the next run. Only Linux has /proc; elsewhere
// folders and processes are left to those who made them.

/** Holds the name of the run, in the environment of each of its processes. */
const MARK = "BATON_TEST_RUN";
const PREFIX = "baton-test-";
const NAME = /^baton-test-(\d+)-(\d+)-(\d+)$/;
/** Field of /proc/<pid>/stat after the command: when the process was started, in ticks since the machine was. */
const START_FIELD = 19;

export interface Run {
  readonly name: string;
  /** Where its processes make their temporary folders. */
  readonly folder: string;
}

/** Starts a run of which this process is the owner, and ends what is left of runs whose owner is gone. */
export function beginRun(): Run {
  const root = tmpdir();
  for (const name of deadRuns(root)) {
    endProcesses(name);
    rmSync(join(root, name), { recursive: true, force: true });
  }
  const name = `${PREFIX}${namespaceOf("self") ?? 0}-${process.pid}-${startOf(process.pid) ?? 0}`;
  const folder = join(root, name);
  mkdirSync(folder, { recursive: true });
  // What is started from here on inherits both.
  process.env[MARK] = name;
  process.env["TMPDIR"] = folder;
  return { name, folder };
}

/** Starts a run where this process is not part of one; it ends with the process. */
export function ownRun(): void {
  if (process.env[MARK] !== undefined) return;
  const run = beginRun();
  process.on("exit", () => {
    endProcesses(run.name);
    removeFolder(run);
  });
}

/** Ends every process of a run but this one, at once. */
export function endProcesses(name: string): void {
  for (const pid of processesOf(name)) signal(pid);
}

/** Removes what the processes of a run have left. */
export function removeFolder({ folder }: Run): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}

/** The processes that have the run's mark in their environment, without this one. */
export function processesOf(name: string): readonly number[] {
  return numbers().filter((pid) => {
    if (pid === process.pid) return false;
    try {
      return readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").includes(`${MARK}=${name}`);
    } catch {
      // Gone already, or another user's.
      return false;
    }
  });
}

function deadRuns(root: string): readonly string[] {
  return readdirSync(root).filter((name) => {
    const [, namespace, pid, start] = NAME.exec(name) ?? [];
    // Where numbers of processes mean others than here, nothing can be said.
    if (namespace === undefined || namespace !== namespaceOf("self")) return false;
    return startOf(Number(pid)) !== start;
  });
}

function signal(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Gone meanwhile.
  }
}

function numbers(): readonly number[] {
  try {
    return readdirSync("/proc").map(Number).filter(Number.isInteger);
  } catch {
    return [];
  }
}

/** In which namespace numbers of processes are counted. */
function namespaceOf(pid: "self"): string | undefined {
  try {
    return /\d+/.exec(readlinkSync(`/proc/${pid}/ns/pid`))?.[0];
  } catch {
    return undefined;
  }
}

/** When a process was started; numbers are given again to others. */
function startOf(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    // A zombie is gone, but for its parent.
    return fields[0] === "Z" ? undefined : fields[START_FIELD];
  } catch {
    return undefined;
  }
}
