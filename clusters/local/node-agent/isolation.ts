import { mkdtemp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { LocalError, messageOf } from "../errors.ts";
import { containerFolders, containerMounts, makeFolders } from "./container-view.ts";
import { ContainerProcess, type ContainerSpec, type End, type IsolationMode } from "./helper.ts";
import { DEFAULT_USER } from "./security.ts";

/** What sets the Pods of this machine apart from it, and why not more. */
export const isolationSchema = z.object({
  mode: z.enum(["namespaces", "user-namespaces", "none"]),
  /** Why there are no namespaces; empty where there are. */
  reason: z.string(),
});
export type Isolation = z.infer<typeof isolationSchema>;

/** A sentence for whoever starts the cluster; undefined where all is as it should be. */
export function isolationWarning(isolation: Isolation): string | undefined {
  if (isolation.mode !== "none") return undefined;
  return `Pods are not isolated: each runs as you, and can end or read your other processes, since ${isolation.reason}; start the cluster as root, or allow user namespaces (sysctl user.max_user_namespaces)`;
}

export interface IsolationDeps {
  readonly helper: string;
  /** Folder for the attempt. */
  readonly folder: string;
  readonly repository: string;
  /** Folders that no container sees. */
  readonly hidden: readonly string[];
}

/**
 * Finds out by trying which namespaces can be had. Fails with PATH_NOT_READABLE where they can, but the users in them
 * could not read the checkout.
 */
export async function detectIsolation(deps: IsolationDeps): Promise<Isolation> {
  const modes: readonly IsolationMode[] =
    process.getuid?.() === 0 ? ["namespaces", "user-namespaces"] : ["user-namespaces"];
  const reasons: string[] = [];
  for (const mode of modes) {
    const end = await attempt(deps, mode);
    if (end.kind === "ended" && end.code === 0) return { mode, reason: "" };
    if (end.kind === "ended") {
      throw new LocalError(
        "PATH_NOT_READABLE",
        `Pods run as users of their own, which cannot read ${deps.repository}: run chmod -R go+rX ${deps.repository}`,
      );
    }
    reasons.push(`${mode}: ${end.message}`);
  }
  return { mode: "none", reason: `there are no namespaces to be had (${reasons.join("; ")})` };
}

/** Ends with 0 where a container can be had and its user reads what our images are made of. */
async function attempt(deps: IsolationDeps, mode: IsolationMode): Promise<End> {
  const { helper, repository, hidden } = deps;
  const base = await mkdtemp(join(deps.folder, "attempt-"));
  try {
    const folders = containerFolders(base, "attempt");
    await makeFolders(folders, mode, DEFAULT_USER);
    const spec: ContainerSpec = {
      mode,
      args: [
        "/bin/sh",
        "-c",
        '"$0" --version && cat package.json clusters/local/node-agent/main.ts',
        process.execPath,
      ],
      env: ["PATH=/usr/bin:/bin"],
      cwd: repository,
      hostname: "attempt",
      process: { ...DEFAULT_USER, groups: [DEFAULT_USER.gid], capabilities: [], noNewPrivileges: true },
      root: folders.root,
      mounts: containerMounts({ repository, hidden, paths: [], credentials: undefined, folders }),
      log: { path: join(base, "attempt.log"), maxBytes: 1_000_000 },
    };
    return await new ContainerProcess(helper, spec).ended;
  } catch (error) {
    // Root of a user namespace may not know the users that Pods run as.
    return { kind: "failed", code: 128, message: messageOf(error) };
  } finally {
    await rm(base, { recursive: true, force: true });
  }
}

/** What a cluster's agent has found; undefined while there is none. */
export async function readIsolation(clusterFolder: string): Promise<Isolation | undefined> {
  const text = await readFile(join(clusterFolder, "node-agent.json"), "utf8").catch(() => undefined);
  return text === undefined ? undefined : isolationSchema.parse(JSON.parse(text).isolation);
}
