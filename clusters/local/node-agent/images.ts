import { readFile } from "node:fs/promises";
import { parse } from "yaml";
import * as z from "zod";
import { DEFAULT_USER } from "./security.ts";

const imagesSchema = z.object({
  images: z.record(
    z.string(),
    z.strictObject({
      /** Program and leading arguments; `node` is the one that runs the agent. */
      entrypoint: z.array(z.string()).min(1),
      /** Arguments that a container's `args` replace. */
      cmd: z.array(z.string()).default([]),
      /** User that its programs run as where the manifest names none: "<uid>" or "<uid>:<gid>". */
      user: z
        .string()
        .regex(/^\d+(:\d+)?$/)
        .optional(),
      /** Absolute paths of the machine that its programs read, beside the checkout and the system's programs. */
      paths: z.array(z.string().startsWith("/")).default([]),
    }),
  ),
});

export type Images = z.infer<typeof imagesSchema>["images"];

/** Reads the map from image repositories to local commands; later files add to earlier ones. */
export async function readImages(files: readonly string[]): Promise<Images> {
  const all: Images = {};
  for (const file of files)
    Object.assign(all, imagesSchema.parse(parse(await readFile(file, "utf8"))).images);
  return all;
}

/** The repository of an image reference, without tag and digest. */
export function repositoryOf(image: string): string {
  const [name] = image.split("@", 1) as [string];
  return name.replace(/:[^:/]+$/, "");
}

/** The image of a container; undefined where the map does not have it. */
export function imageOf(images: Images, reference: string): Images[string] | undefined {
  return images[repositoryOf(reference)];
}

/** The user that an image names. */
export function imageUser(image: Images[string]): { readonly uid: number; readonly gid: number } {
  if (image.user === undefined) return DEFAULT_USER;
  const [uid = 0, gid = 0] = image.user.split(":").map(Number);
  return { uid, gid };
}

/** Command line of a container by Docker's rules for entrypoint and cmd. */
export function commandLine(
  image: Images[string],
  container: { readonly command?: readonly string[]; readonly args?: readonly string[] },
): readonly string[] {
  const entrypoint = container.command ?? image.entrypoint;
  const cmd = container.args ?? (container.command === undefined ? image.cmd : []);
  return [...entrypoint, ...cmd];
}
