import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { docker, needEngine } from "../docker.ts";
import { LocalError } from "../local/errors.ts";
import { exec } from "../local/toolchain/exec.ts";
import { ensureToolchain, type Toolchain, toolPath, which } from "../local/toolchain/index.ts";
import { ALERTMANAGER, PROMETHEUS_SERVER } from "../local/toolchain/tools.ts";
import { bundle } from "./bundle.ts";
import {
  BASE_IMAGES,
  SERVER_IMAGES,
  SERVICE_IMAGES,
  type ServerImage,
  type ServiceImage,
  toolsFor,
} from "./catalog.ts";
import {
  billOfMaterials,
  debianMaterials,
  digestOf,
  goMaterials,
  jarMaterials,
  type Material,
  npmMaterials,
} from "./materials.ts";
import { packOwned } from "./owned.ts";
import { provenance } from "./provenance.ts";
import { Root } from "./root.ts";

const root = join(import.meta.dirname, "..", "..");
/** Where bills of materials and provenance are written, a folder for each image. */
export const RECORDS = join(root, ".baton", "images");

export interface BuildOptions {
  /** What stands before the names. */
  readonly from: string;
  readonly tag: string;
  /** Which images; all when empty. */
  readonly only: readonly string[];
  /** An image with Node, by digest, in the place of the one that is made here. */
  readonly base?: string;
  readonly progress: (line: string) => void;
}

export interface Built {
  readonly name: string;
  readonly reference: string;
  readonly id: string;
  readonly bytes: number;
  readonly materials: number;
}

/** Builds images, and writes beside each what it is made of and how it came to be. */
export async function buildImages(options: BuildOptions): Promise<Built[]> {
  const chosen = choose(options.only);
  await needEngine();
  const toolchain = await ensureToolchain({
    progress: options.progress,
    more: [PROMETHEUS_SERVER, ALERTMANAGER],
    only: toolsFor(chosen),
  });
  const source = await readSource();
  const bases = new Map<string, Base>();
  const built: Built[] = [];
  for (const name of chosen) {
    const started = Date.now();
    const service = SERVICE_IMAGES.find((image) => image.name === name);
    const server = SERVER_IMAGES.find((image) => image.name === name);
    const made =
      service === undefined
        ? await buildServer(server as ServerImage, `${options.from}/${name}:${options.tag}`, toolchain)
        : await buildService(service, options, bases, toolchain);
    built.push(await record(name, made, source, started));
    options.progress(`${made.reference} built in ${((Date.now() - started) / 1000).toFixed(1)} s`);
  }
  return built;
}

function choose(only: readonly string[]): string[] {
  const names = [...SERVICE_IMAGES, ...SERVER_IMAGES].map(({ name }) => name);
  const unknown = only.filter((name) => !names.includes(name));
  if (unknown.length > 0) {
    throw new LocalError(
      "UNKNOWN_IMAGE",
      `no image is called ${unknown.join(", ")}; there are ${names.join(", ")}`,
    );
  }
  return only.length === 0 ? names : names.filter((name) => only.includes(name));
}

interface Made {
  readonly reference: string;
  readonly materials: readonly Material[];
  readonly from: Readonly<Record<string, string>>;
}

interface Base {
  readonly reference: string;
  readonly materials: readonly Material[];
}

async function buildService(
  image: ServiceImage,
  { from, tag, base, progress }: BuildOptions,
  bases: Map<string, Base>,
  toolchain: Toolchain,
): Promise<Made> {
  const standing =
    base === undefined
      ? await baseOf(image.base, bases, toolchain, progress)
      : { reference: base, materials: [] };
  const reference = `${from}/${image.name}:${tag}`;
  return inFolder(async (folder) => {
    const app = join(folder, "app");
    await mkdir(app);
    const { packages } = await bundle(image.entry, image.packages, app);
    for (const path of image.files ?? []) await cp(join(root, path), join(app, path), { recursive: true });
    await dockerBuild("service.Dockerfile", reference, folder, [
      "--build-arg",
      `BASE_IMAGE=${standing.reference}`,
      "--target",
      image.stage ?? "service",
    ]);
    return {
      reference,
      materials: [...standing.materials, ...(await npmMaterials(packages))],
      from: {
        "package-lock.json": await digestOf(join(root, "package-lock.json")),
        [standing.reference]: await docker("image", "inspect", "-f", "{{.Id}}", standing.reference),
      },
    };
  });
}

/** Makes what services stand on, once; its tag is named by its content, so that it says which one it is. */
async function baseOf(
  name: string,
  bases: Map<string, Base>,
  toolchain: Toolchain,
  progress: (line: string) => void,
): Promise<Base> {
  const known = bases.get(name);
  if (known !== undefined) return known;
  const spec = BASE_IMAGES.find((image) => image.name === name) as ServerImage;
  const { materials, reference: latest } = await buildServer(spec, `baton/${name}:latest`, toolchain);
  const id = await docker("image", "inspect", "-f", "{{.Id}}", latest);
  const reference = `baton/${name}:${id.slice("sha256:".length, 19)}`;
  await docker("tag", latest, reference);
  progress(`${reference} built`);
  const base = { reference, materials };
  bases.set(name, base);
  return base;
}

/** What reads accounts and names needs a word on both. */
const ETC = {
  "etc/passwd": "root:x:0:0:root:/:/none\nbaton:x:10001:10001:baton:/tmp:/none\n",
  "etc/group": "root:x:0:\nbaton:x:10001:\n",
  "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
};

async function buildServer(image: ServerImage, reference: string, toolchain: Toolchain): Promise<Made> {
  return inFolder(async (folder) => {
    const at = join(folder, "root");
    await mkdir(join(at, "etc"), { recursive: true });
    for (const [path, text] of Object.entries(ETC)) await writeFile(join(at, path), text);
    const files = new Root(at);
    const materials: Material[] = [];
    for (const name of image.programs ?? []) await files.add(await needProgram(name), `/usr/bin/${name}`);
    for (const [name, as] of Object.entries(image.tools ?? {})) {
      const path = toolPath(toolchain, name);
      await files.add(path, `/usr/local/bin/${as}`);
      materials.push(...(await goMaterials(path)));
    }
    for (const [from, to] of image.paths ?? []) await files.add(from, to);
    for (const [path, target] of Object.entries(image.links ?? {})) await files.link(path, target);
    if (image.node === true) {
      await files.add(process.execPath, "/usr/local/bin/node");
      materials.push({
        name: "node",
        version: process.versions.node,
        purl: `pkg:generic/node@${process.versions.node}`,
      });
    }
    if (image.kafka === true) {
      const jars = toolPath(toolchain, "kafka");
      const home = await javaHome();
      // The rest is for building.
      for (const part of ["bin", "conf", "lib"]) await files.add(join(home, part), join("/opt/java", part));
      await files.add(jars, "/opt/kafka/libs");
      materials.push(...(await jarMaterials(jars)));
    }
    materials.push(...(await debianMaterials(files.taken)));
    await packOwned(join(folder, "owned.tar"), image.data);
    await dockerBuild("server.Dockerfile", reference, folder, []);
    return { reference, materials, from: {} };
  });
}

async function dockerBuild(file: string, reference: string, folder: string, more: readonly string[]) {
  await docker("build", "-q", "-t", reference, "-f", join(import.meta.dirname, file), ...more, folder);
}

async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "baton-image-"));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface Source {
  readonly commit: string;
  readonly dirty: boolean;
}

async function readSource(): Promise<Source> {
  const git = async (...args: string[]) => (await exec("git", args, { cwd: root })).tail;
  const [commit = ""] = await git("rev-parse", "HEAD");
  return { commit, dirty: (await git("status", "--porcelain")).length > 0 };
}

async function record(name: string, made: Made, { commit, dirty }: Source, started: number): Promise<Built> {
  const { reference, materials, from } = made;
  const [id = "", size = "0"] = (
    await docker("image", "inspect", "-f", "{{.Id}} {{.Size}}", reference)
  ).split(" ");
  const folder = join(RECORDS, name);
  await mkdir(folder, { recursive: true });
  const [startedAt, finishedAt] = [new Date(started), new Date()];
  const bill = await billOfMaterials({ name: reference, version: id, at: finishedAt }, materials);
  await writeFile(join(folder, "sbom.cdx.json"), `${bill}\n`);
  const origin = { image: reference, id, commit, dirty, from, startedAt, finishedAt };
  await writeFile(join(folder, "provenance.json"), `${JSON.stringify(provenance(origin), null, 2)}\n`);
  return { name, reference, id, bytes: Number(size), materials: materials.length };
}

async function needProgram(name: string): Promise<string> {
  const path = await which(name);
  if (path !== undefined) return path;
  throw new LocalError("TOOL_MISSING", `${name} is not on the PATH: install it`);
}

/** Of the Java on the PATH. */
async function javaHome(): Promise<string> {
  const home = dirname(dirname(await realpath(await needProgram("java"))));
  if (existsSync(join(home, "lib", "modules"))) return home;
  throw new LocalError(
    "TOOL_MISSING",
    `${home} is no Java that can be copied: put one of 17 or later first on the PATH`,
  );
}
