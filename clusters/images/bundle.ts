import { existsSync } from "node:fs";
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, sep } from "node:path";
import { type OutputBundle, rolldown } from "rolldown";

const root = join(import.meta.dirname, "..", "..");
const MODULES = join(root, "node_modules");

/** Packages of which most is never called, and which say nowhere that what is not called can be left out. */
const MOSTLY_UNUSED = /\/node_modules\/(@kubernetes\/client-node|openid-client)\//;

export interface Bundled {
  /** Folders of the packages whose code is in the image, bundled or beside the bundle. */
  readonly packages: readonly string[];
}

/**
 * Writes `main.js`, and beside it the packages that stay as they are with what those need at run time.
 * @param entry path in the repository
 */
export async function bundle(entry: string, kept: readonly string[], into: string): Promise<Bundled> {
  const build = await rolldown({
    input: join(root, entry),
    platform: "node",
    external: kept.flatMap((name) => [name, new RegExp(`^${name}/`)]),
    // Packages have their own opinions about `this` and circular imports.
    logLevel: "silent",
    resolve: { alias: { undici: join(import.meta.dirname, "no-undici.ts") } },
    treeshake: { moduleSideEffects: (id) => !MOSTLY_UNUSED.test(id) },
    plugins: [{ name: "ascii", generateBundle: (_, files) => Object.values(files).forEach(toAscii) }],
  });
  const { output } = await build.write({
    file: join(into, "main.js"),
    format: "esm",
    // Without comments and white space, which V8 keeps as well. Names stay, for whoever reads a stack.
    minify: { mangle: false, compress: false, codegen: { removeWhitespace: true, legalComments: "none" } },
    codeSplitting: false,
  });
  await build.close();
  await writeFile(join(into, "package.json"), `${JSON.stringify({ type: "module", private: true })}\n`);
  const used = new Set<string>();
  for (const chunk of output) {
    if (chunk.type !== "chunk") continue;
    for (const [id, { renderedLength }] of Object.entries(chunk.modules)) {
      if (renderedLength > 0 && id.startsWith(MODULES)) used.add(packageOf(id));
    }
  }
  for (const name of kept) for (const folder of await copyPackage(name, into)) used.add(folder);
  return { packages: [...used].toSorted() };
}

/**
 * The same source in ASCII: of one with a single character beyond Latin-1 V8 keeps two bytes a character. By UTF-16 unit:
 * a pair of escapes is the same character, in strings and in expressions.
 */
function toAscii(file: OutputBundle[string]): void {
  if (file.type !== "chunk") return;
  const inAscii = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  file.code = file.code.replaceAll(/[^\0-\x7f]/g, inAscii);
}

/** The folder of the package that a file belongs to. */
function packageOf(file: string): string {
  const marker = `${sep}node_modules${sep}`;
  const at = file.lastIndexOf(marker) + marker.length;
  const [first = "", second = ""] = file.slice(at).split(sep);
  return join(file.slice(0, at), first.startsWith("@") ? join(first, second) : first);
}

/** What a package lists among its dependencies and uses only while it is installed. */
const INSTALL_ONLY: Readonly<Record<string, readonly string[]>> = {
  "onnxruntime-node": ["adm-zip", "global-agent"],
};

interface Dependencies {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

function isInstalled(name: string, from: string): boolean {
  const folders = createRequire(join(from, "package.json")).resolve.paths(name) ?? [];
  return folders.some((folder) => existsSync(join(folder, name, "package.json")));
}

/** Copies a package and what it depends on; resolves with the folders. */
async function copyPackage(name: string, into: string, from = root): Promise<string[]> {
  const manifest = createRequire(join(from, "package.json"))
    .resolve.paths(name)
    ?.map((folder) => join(folder, name, "package.json"));
  for (const path of manifest ?? []) {
    const text = await readFile(path, "utf8").catch(() => undefined);
    if (text === undefined) continue;
    const folder = dirname(path);
    const { dependencies = {}, optionalDependencies = {} } = JSON.parse(text) as Dependencies;
    const to = join(into, folder.slice(root.length + 1));
    await mkdir(dirname(to), { recursive: true });
    await cp(folder, to, { recursive: true, filter: (file) => isNeeded(file.slice(folder.length)) });
    const all = [folder];
    for (const needed of Object.keys(dependencies)) {
      if (INSTALL_ONLY[name]?.includes(needed) !== true)
        all.push(...(await copyPackage(needed, into, folder)));
    }
    // Binaries: npm has installed those of this system.
    for (const possible of Object.keys(optionalDependencies)) {
      if (isInstalled(possible, folder)) all.push(...(await copyPackage(possible, into, folder)));
    }
    return all;
  }
  throw new Error(`the package ${name} is not installed`);
}

/** Not the binaries of other systems, nor what is for reading. */
function isNeeded(path: string): boolean {
  const native = /^\/bin\/napi-v\d+(?:\/([^/]+)(?:\/([^/]+))?)?/.exec(path);
  if (native !== null) {
    const [, system = process.platform, architecture = process.arch] = native;
    return system === process.platform && architecture === process.arch;
  }
  return !/\.(md|d\.ts|map)$|\/(test|tests|__tests__|docs|testHelpers|\.github)$/.test(path);
}
