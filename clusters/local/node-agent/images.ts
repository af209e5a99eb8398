import { readFile } from "node:fs/promises";
import { parse } from "yaml";
import * as z from "zod";

const imagesSchema = z.object({
  images: z.record(
    z.string(),
    z.strictObject({
      /** Program and leading arguments; `node` is the one that runs the agent. */
      entrypoint: z.array(z.string()).min(1),
      /** Arguments that a container's `args` replace. */
      cmd: z.array(z.string()).default([]),
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

/** Command line of a container by Docker's rules for entrypoint and cmd; undefined for an unknown image. */
export function commandLine(
  images: Images,
  container: {
    readonly image: string;
    readonly command?: readonly string[];
    readonly args?: readonly string[];
  },
): readonly string[] | undefined {
  const image = images[repositoryOf(container.image)];
  if (image === undefined) return undefined;
  const entrypoint = container.command ?? image.entrypoint;
  const cmd = container.args ?? (container.command === undefined ? image.cmd : []);
  return [...entrypoint, ...cmd];
}
