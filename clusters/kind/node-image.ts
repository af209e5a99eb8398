import { copyFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { docker, follow } from "../docker.ts";
import { ensureProgram, ensureToolchain, toolPath } from "../local/toolchain/index.ts";
import { KUBERNETES, NODE_TOOLS } from "../local/toolchain/tools.ts";

const VERSION = `v${KUBERNETES}`;
/** A node that is built here. */
const OWN_IMAGE = `baton/kind-node:${VERSION}`;
/** What kind's own release names; see its release notes. */
const UPSTREAM_IMAGE =
  "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5";

export interface NodeImage {
  readonly reference: string;
  /** Built here, with images of its own for the control plane. */
  readonly own: boolean;
}

/** The image of a node: one that was built before, else kind's own, else one that is built now (minutes). */
export async function ensureNodeImage(progress: (line: string) => void): Promise<NodeImage> {
  const named = process.env["KIND_NODE_IMAGE"];
  if (named !== undefined && named !== "") return { reference: named, own: false };
  if (await exists(OWN_IMAGE)) return { reference: OWN_IMAGE, own: true };
  const pulled = (await exists(UPSTREAM_IMAGE)) || (await succeeds(docker("pull", "-q", UPSTREAM_IMAGE)));
  if (pulled) return { reference: UPSTREAM_IMAGE, own: false };
  progress("no registry of images in reach: a node image is built from packages and Go modules");
  await build(progress);
  return { reference: OWN_IMAGE, own: true };
}

async function build(progress: (line: string) => void): Promise<void> {
  const toolchain = await ensureToolchain({ progress, more: NODE_TOOLS });
  await ensureProgram("debootstrap", "debootstrap", progress);
  const folder = await mkdtemp(join(tmpdir(), "baton-node-"));
  try {
    const names = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "etcd"];
    for (const name of [...names, ...NODE_TOOLS.map((tool) => tool.name)]) {
      await copyFile(toolPath(toolchain, name), join(folder, name));
    }
    await follow(join(import.meta.dirname, "node-image", "build"), [folder, OWN_IMAGE, VERSION]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function exists(image: string): Promise<boolean> {
  return succeeds(docker("image", "inspect", "-f", "{{.Id}}", image));
}

async function succeeds(work: Promise<unknown>): Promise<boolean> {
  return work.then(
    () => true,
    () => false,
  );
}
