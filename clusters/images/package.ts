import { createHash } from "node:crypto";
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LocalError } from "../local/errors.ts";
import { exec } from "../local/toolchain/exec.ts";
import { bundle } from "./bundle.ts";
import { SERVICE_IMAGES } from "./catalog.ts";

// The command line as a package for `npm install --global`: one bundled file and what cannot be bundled, with nothing left to
// download. The repository itself is no such package (ADR 41).

const root = join(import.meta.dirname, "..", "..");
/** Where packages go. */
export const PACKAGES = join(root, ".baton", "package");

export interface Packed {
  readonly path: string;
  readonly version: string;
  readonly bytes: number;
  /** Hexadecimal; beside the package in a file that `sha256sum --check` reads. */
  readonly sha256: string;
}

/** Makes the package of the version that package.json has. */
export async function packCli(into = PACKAGES): Promise<Packed> {
  const { version, description, license, engines } = JSON.parse(
    await readFile(join(root, "package.json"), "utf8"),
  ) as Readonly<Record<"version" | "description" | "license", string>> & { readonly engines: object };
  const image = SERVICE_IMAGES.find(({ name }) => name === "cli");
  if (image === undefined) throw new Error("no image of the command line");
  await mkdir(into, { recursive: true });
  const folder = await mkdtemp(join(tmpdir(), "baton-package-"));
  try {
    await bundle(image.entry, image.packages, folder);
    await chmod(join(folder, "main.js"), 0o755);
    await cp(join(root, "LICENSE"), join(folder, "LICENSE"));
    const kept = await keptIn(join(folder, "node_modules"));
    const manifest = {
      name: "baton",
      version,
      description,
      license,
      type: "module",
      engines,
      bin: { baton: "main.js", "kubectl-baton": "main.js" },
      files: ["main.js"],
      dependencies: versionsOf(kept.filter(({ isBinary }) => !isBinary)),
      optionalDependencies: versionsOf(kept.filter(({ isBinary }) => isBinary)),
      bundleDependencies: kept.map(({ name }) => name),
    };
    await writeFile(join(folder, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
    const packed = await exec("npm", ["pack", "--ignore-scripts", "--pack-destination", into], {
      cwd: folder,
    });
    if (packed.code !== 0) throw new LocalError("BUILD_FAILED", `npm pack: ${packed.tail.join("\n")}`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const name = `baton-${version}.tgz`;
  const path = join(into, name);
  const bytes = await readFile(path);
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  await writeFile(`${path}.sha256`, `${sha256}  ${name}\n`);
  return { path, version, bytes: bytes.length, sha256 };
}

interface Kept {
  readonly name: string;
  readonly version: string;
  /** It holds a binary of one system: without it the rest works. */
  readonly isBinary: boolean;
}

/** The packages beside the bundle. */
async function keptIn(modules: string): Promise<readonly Kept[]> {
  const names = (await readdir(modules)).map(async (name) =>
    name.startsWith("@") ? (await readdir(join(modules, name))).map((inner) => `${name}/${inner}`) : [name],
  );
  const kept = (await Promise.all(names))
    .flat()
    .toSorted()
    .map(async (name) => {
      const { version, os } = JSON.parse(await readFile(join(modules, name, "package.json"), "utf8")) as {
        readonly version: string;
        readonly os?: readonly string[];
      };
      return { name, version, isBinary: os !== undefined };
    });
  return Promise.all(kept);
}

function versionsOf(kept: readonly Kept[]): Readonly<Record<string, string>> {
  return Object.fromEntries(kept.map(({ name, version }) => [name, version]));
}

if (import.meta.main) {
  const { path, bytes, sha256 } = await packCli();
  console.log(`${path}  ${Math.round(bytes / 1000)} kB  sha256 ${sha256}`);
  console.log(`install it with: npm install --global ${path}`);
}
