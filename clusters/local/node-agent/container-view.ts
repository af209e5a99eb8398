import { existsSync, lstatSync, realpathSync } from "node:fs";
import { chmod, chown, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { IsolationMode, Mount } from "./helper.ts";

/** Where programs and their libraries are; nothing in them is anybody's secret. */
const SYSTEM = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt"];
/** Of /etc only what programs need to find names, libraries and trusted certificates. */
const ETC = [
  "alternatives",
  "ca-certificates",
  "group",
  "hosts",
  "ld.so.cache",
  "ld.so.conf",
  "ld.so.conf.d",
  "localtime",
  "nsswitch.conf",
  "os-release",
  "passwd",
  "resolv.conf",
  "services",
  "ssl/certs",
  "ssl/openssl.cnf",
  "timezone",
];

/** The folders of one container on the machine. They are gone with it. */
export interface ContainerFolders {
  readonly base: string;
  /** Its HOME, under the same path in the container. */
  readonly home: string;
  /** What it sees as /tmp. */
  readonly tmp: string;
  /** What its root is mounted on. */
  readonly root: string;
}

export function containerFolders(podFolder: string, container: string): ContainerFolders {
  const base = join(podFolder, "containers", container);
  return { base, home: join(base, "home"), tmp: join(base, "tmp"), root: join(base, "root") };
}

export interface ViewInput {
  /** The checkout, which is what our images hold. */
  readonly repository: string;
  /** Folders that hold the machine's own affairs, such as the keys of clusters. */
  readonly hidden: readonly string[];
  /** Paths that the image names. */
  readonly paths: readonly string[];
  /** Folder of the service account's token, where the Pod has one. */
  readonly credentials: string | undefined;
  readonly folders: ContainerFolders;
}

/** What of the machine a container sees: programs, the checkout, its own token; it writes to its home and its /tmp only. */
export function containerMounts(input: ViewInput): Mount[] {
  const { repository, hidden, folders, credentials } = input;
  const etc = ETC.map((name) => join("/etc", name));
  // The checkout's packages, and Node, may be links to somewhere else.
  const linked = present([join(repository, "node_modules"), process.execPath]);
  const read = [...SYSTEM, ...etc, repository, ...linked, ...input.paths].filter(
    (path) => lstatSync(path, { throwIfNoEntry: false }) !== undefined,
  );
  const mounts: Mount[] = outermost(read).map((path) => ({ path, kind: "read" }));
  for (const path of present(hidden)) {
    if (read.some((other) => within(path, other))) mounts.push({ path, kind: "hide" });
  }
  if (credentials !== undefined) mounts.push({ path: credentials, kind: "read" });
  mounts.push({ path: folders.home, kind: "write" }, { path: "/tmp", from: folders.tmp, kind: "write" });
  return mounts;
}

/** Paths that exist, as what they are when links are followed. */
function present(paths: readonly string[]): string[] {
  return [...new Set(paths.filter(existsSync).map((path) => realpathSync(path)))];
}

/** Paths that lie in no other of them. */
function outermost(paths: readonly string[]): string[] {
  const unique = [...new Set(paths)];
  return unique.filter((path) => !unique.some((other) => other !== path && within(path, other)));
}

function within(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

/** Makes a container's folders anew, for its user: what an earlier one of this name has left is not its business. */
export async function makeFolders(
  folders: ContainerFolders,
  mode: IsolationMode,
  user: { readonly uid: number; readonly gid: number },
): Promise<void> {
  await rm(folders.base, { recursive: true, force: true });
  for (const folder of [folders.home, folders.tmp, folders.root]) await mkdir(folder, { recursive: true });
  await chmod(folders.tmp, 0o1777);
  if (mode === "namespaces") await chown(folders.home, user.uid, user.gid);
}
