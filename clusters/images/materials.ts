import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { Enums, Models, Serialize, Spec, Validation } from "@cyclonedx/cyclonedx-library";
import { PackageURL } from "packageurl-js";

const run = promisify(execFile);

/** Something of others that is in an image. */
export interface Material {
  readonly name: string;
  readonly version: string;
  /** Where it comes from, as a package URL. */
  readonly purl?: string;
  /** SPDX expression, where its package says one. */
  readonly license?: string;
  readonly sha256?: string;
}

/** Packages of npm, by their folders. */
export async function npmMaterials(folders: Iterable<string>): Promise<Material[]> {
  return Promise.all(
    [...folders].map(async (folder) => {
      const { name, version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8")) as {
        readonly name: string;
        readonly version: string;
        readonly license?: unknown;
      };
      const [scope, base] = name.startsWith("@") ? name.split("/") : [undefined, name];
      const purl = new PackageURL("npm", scope, base ?? name, version, undefined, undefined).toString();
      return { name, version, purl, ...(typeof license === "string" ? { license } : {}) };
    }),
  );
}

/** Packages of Debian that the files belong to; files of none are left out. */
export async function debianMaterials(files: Iterable<string>): Promise<Material[]> {
  // dpkg knows files by the path that they were installed under, before /lib became a part of /usr.
  const paths = [...files].flatMap((file) => [file, file.replace(/^\/usr/, ""), `/usr${file}`]);
  // Ends with an error for each path that it does not know, and tells the others all the same.
  const found = await run("dpkg-query", ["-S", ...paths], { maxBuffer: 64 * 1024 * 1024 }).catch(
    (error: { stdout?: string }) => ({ stdout: error.stdout ?? "" }),
  );
  const names = new Set(
    found.stdout.split("\n").flatMap((line) => line.slice(0, line.lastIndexOf(": ")).split(", ")),
  );
  names.delete("");
  if (names.size === 0) return [];
  const form = ["Package", "Version", "Architecture"].map((field) => `\${${field}}`).join("\t");
  const { stdout } = await run("dpkg-query", ["-W", "-f", `${form}\n`, ...[...names].filter(isPackage)]);
  return stdout
    .trim()
    .split("\n")
    .map((line) => {
      const [name = "", version = "", arch = ""] = line.split("\t");
      return { name, version, purl: new PackageURL("deb", "debian", name, version, { arch }).toString() };
    });
}

/** dpkg tells of diversions as well. */
function isPackage(name: string): boolean {
  return /^[a-z0-9][a-z0-9.+-]+(:[a-z0-9]+)?$/.test(name);
}

/** Modules that a Go program was built from, as it says itself. */
export async function goMaterials(program: string): Promise<Material[]> {
  const { stdout } = await run("go", ["version", "-m", program], { maxBuffer: 16 * 1024 * 1024 });
  return [...stdout.matchAll(/^\t(?:dep|=>)\t(\S+)\t(v\S+)/gm)].map(([, name = "", version = ""]) => {
    const at = name.lastIndexOf("/");
    const purl = new PackageURL("golang", name.slice(0, Math.max(at, 0)), name.slice(at + 1), version);
    return { name, version, purl: purl.toString() };
  });
}

/** Java archives of a folder, by their names and what is in them. */
export async function jarMaterials(folder: string): Promise<Material[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".jar")).toSorted();
  return Promise.all(
    names.map(async (file) => {
      const [, name = file, version = ""] = /^(.+?)-(\d[\w.-]*)\.jar$/.exec(file) ?? [];
      return { name, version, sha256: await digestOf(join(folder, file)) };
    }),
  );
}

/** SHA-256 of a file, as hexadecimal digits. */
export async function digestOf(path: string): Promise<string> {
  return createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
}

/**
 * The bill of materials as CycloneDX 1.6 in JSON.
 *
 * @throws Error when it does not satisfy CycloneDX's own schema
 */
export async function billOfMaterials(
  image: { readonly name: string; readonly version: string; readonly at: Date },
  materials: readonly Material[],
): Promise<string> {
  const { Container, Library } = Enums.ComponentType;
  const bom = new Models.Bom();
  bom.metadata.timestamp = image.at;
  bom.metadata.component = new Models.Component(Container, image.name, {
    version: image.version,
    bomRef: "image",
  });
  const different = new Map(materials.map((one) => [one.purl ?? `${one.name}@${one.version}`, one]));
  for (const [ref, { name, version, purl, license, sha256 }] of different) {
    const component = new Models.Component(Library, name, {
      version,
      bomRef: ref,
      ...(purl === undefined ? {} : { purl }),
    });
    if (license !== undefined) component.licenses.add(new Models.LicenseExpression(license));
    if (sha256 !== undefined) component.hashes.set(Enums.HashAlgorithm["SHA-256"], sha256);
    bom.components.add(component);
    bom.metadata.component.dependencies.add(component.bomRef);
  }
  const spec = Spec.Spec1dot6;
  const text = new Serialize.JsonSerializer(new Serialize.JSON.Normalize.Factory(spec)).serialize(bom, {
    sortLists: true,
    space: 2,
  });
  const wrong = await new Validation.JsonStrictValidator(spec.version).validate(text);
  if (wrong !== null) throw new Error(`bill of materials of ${image.name}: ${JSON.stringify(wrong)}`);
  return text;
}
