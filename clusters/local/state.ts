import { existsSync, readFileSync } from "node:fs";
import { mkdir, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import * as z from "zod";
import { LocalError } from "./errors.ts";
import { alive, makeFolder } from "./toolchain/install.ts";

export const REPOSITORY = join(import.meta.dirname, "..", "..");

/** Offsets of the ports of a cluster from the start of its block of 100. */
const PORT_OFFSETS = {
  etcd: 0,
  etcdPeer: 1,
  apiserver: 2,
  controllerManager: 3,
  scheduler: 4,
  kafka: 5,
  kafkaController: 6,
  redis: 7,
  prometheus: 8,
  kubelet: 9,
} as const;

export type PortName = keyof typeof PORT_OFFSETS;
export type Ports = Readonly<Record<PortName, number>>;

const FIRST_BLOCK = 26_000;
const BLOCKS = 60;

const stateSchema = z.object({
  name: z.string(),
  /** First port of the block of 100 that this cluster owns. */
  portBase: z.int().min(1024).max(65_000),
});

/** One local cluster on disk: its folder and the ports that it keeps for life. */
export interface ClusterState {
  readonly name: string;
  readonly folder: string;
  readonly ports: Ports;
  /** Second octet of the loopback addresses that its Pods get: 127.<octet>.x.y. */
  readonly podOctet: number;
}

const NAME = /^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/;

/** Folder that holds the clusters: BATON_STATE, or `.baton/clusters` in the checkout. */
export function stateRoot(env: Readonly<Record<string, string | undefined>> = process.env): string {
  return env["BATON_STATE"] ?? join(REPOSITORY, ".baton", "clusters");
}

export function clusterFolder(name: string): string {
  if (!NAME.test(name)) {
    throw new LocalError(
      "BAD_STATE",
      `cluster name ${JSON.stringify(name)}: use lower-case letters, digits and '-'`,
    );
  }
  return join(stateRoot(), name);
}

/** Opens a cluster's state, or makes it with a free block of ports when it is new. */
export async function openCluster(name: string): Promise<ClusterState> {
  const known = await readCluster(name);
  if (known !== undefined) return known;
  const folder = clusterFolder(name);
  await makeFolder(folder);
  const portBase = await freeBlock();
  await writeAtomic(join(folder, "cluster.json"), JSON.stringify({ name, portBase }, null, 2));
  return describe(folder, { name, portBase });
}

/** Names of the clusters that have been made. */
export async function clusterNames(): Promise<readonly string[]> {
  const names = await readdir(stateRoot()).catch(() => []);
  return names.filter((name) => existsSync(join(stateRoot(), name, "cluster.json"))).toSorted();
}

/** A cluster's state; throws with the names of those that there are. */
export async function needCluster(name: string): Promise<ClusterState> {
  const state = await readCluster(name);
  if (state !== undefined) return state;
  const others = await clusterNames();
  const known =
    others.length === 0 ? "" : `; there ${others.length === 1 ? "is" : "are"} ${others.join(", ")}`;
  throw new LocalError("NOT_RUNNING", `there is no cluster ${name}: run \`cluster up\`${known}`);
}

/** A cluster's state, or undefined where there is none. */
export async function readCluster(name: string): Promise<ClusterState | undefined> {
  const folder = clusterFolder(name);
  const file = join(folder, "cluster.json");
  const text = await readFile(file, "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    return describe(folder, stateSchema.parse(JSON.parse(text)));
  } catch (error) {
    throw new LocalError(
      "BAD_STATE",
      `${file} cannot be read; run: npm run cluster -- reset --name ${name}`,
      {
        cause: error,
      },
    );
  }
}

function describe(folder: string, state: z.infer<typeof stateSchema>): ClusterState {
  const entries = Object.entries(PORT_OFFSETS).map(([key, offset]) => [key, state.portBase + offset]);
  const ports = Object.fromEntries(entries) as Record<PortName, number>;
  return { name: state.name, folder, ports, podOctet: 64 + (state.portBase - FIRST_BLOCK) / 100 };
}

/** The first block that no other cluster of this checkout owns and in which nothing listens. */
async function freeBlock(): Promise<number> {
  const root = stateRoot();
  const owned = new Set<number>();
  for (const name of await readdir(root).catch(() => [])) {
    const file = join(root, name, "cluster.json");
    if (!existsSync(file)) continue;
    const parsed = stateSchema.safeParse(JSON.parse(readFileSync(file, "utf8")));
    if (parsed.success) owned.add(parsed.data.portBase);
  }
  for (let block = 0; block < BLOCKS; block++) {
    const base = FIRST_BLOCK + block * 100;
    if (owned.has(base)) continue;
    const ports = Object.values(PORT_OFFSETS).map((offset) => base + offset);
    const free = await Promise.all(ports.map((port) => portFree(port)));
    if (free.every(Boolean)) return base;
  }
  throw new LocalError(
    "PORT_TAKEN",
    `no free block of ports from ${FIRST_BLOCK}: stop a cluster with \`down\``,
  );
}

export function portFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** Fails with a sentence that names the port when one of the cluster's ports is in use. */
export async function checkPorts(cluster: ClusterState): Promise<void> {
  for (const [name, port] of Object.entries(cluster.ports)) {
    if (await portFree(port)) continue;
    throw new LocalError(
      "PORT_TAKEN",
      `port ${port} (${name} of cluster ${cluster.name}) is in use: stop what listens there (ss -ltnp 'sport = :${port}'), or run \`npm run cluster -- reset --name ${cluster.name}\` to get other ports`,
    );
  }
}

/** Writes a file so that a reader sees the old or the new text, never half of it. */
export async function writeAtomic(path: string, text: string, mode = 0o644): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, text, { mode });
  await rename(temporary, path);
}

/** The process number of the cluster's supervisor, if it runs. */
export async function supervisorPid(folder: string): Promise<number | undefined> {
  const pid = Number(await readFile(join(folder, "supervisor.pid"), "utf8").catch(() => "0"));
  if (pid <= 0 || !alive(pid)) return undefined;
  // A number may have been given to another process since: ours says so in its command line.
  const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  return commandLine.includes("clusters/local/supervisor") ? pid : undefined;
}

export async function ensureFolders(folder: string, names: readonly string[]): Promise<void> {
  await Promise.all(names.map((name) => mkdir(join(folder, name), { recursive: true })));
}
