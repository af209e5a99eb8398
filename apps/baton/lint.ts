import { readFile } from "node:fs/promises";
import { Command } from "commander";
import { parseAllDocuments } from "yaml";
import { type Problem as FieldProblem, problemsTogether } from "#operators/model-deployment/api/lint.ts";
import { errnoOf, UsageError } from "./common.ts";
import { shown } from "./names.ts";

interface Problem extends FieldProblem {
  readonly file: string;
  readonly object: string;
}

/** An object of a file, or what keeps it from being one. */
type Read =
  | { readonly file: string; readonly object: unknown }
  | { readonly file: string; readonly error: string };

/** `baton lint`: what the cluster would say of files, without a cluster. Exit code 1 when something is wrong. */
export function lintCommand(): Command {
  return new Command("lint")
    .argument("<files...>", "YAML files")
    .description("check files as the cluster would, without a cluster")
    .option("--json", "print JSON")
    .action(async (files: readonly string[], options: { json?: boolean }) => {
      const problems = problemsOf((await Promise.all(files.map(read))).flat());
      if (options.json) console.log(JSON.stringify(problems));
      else if (problems.length === 0) console.log("nothing wrong");
      else
        for (const { file, object, field, message } of problems)
          console.log(`${file}: ${object} ${field}: ${message}`);
      if (problems.length > 0) process.exitCode = 1;
    });
}

/** Of all objects of all files: one may use another. */
function problemsOf(all: readonly Read[]): readonly Problem[] {
  const unread = all.flatMap((entry) =>
    "error" in entry ? [{ file: entry.file, object: "", field: "", message: entry.error }] : [],
  );
  const read = all.flatMap((entry) => ("error" in entry ? [] : [entry]));
  const found = problemsTogether(read.map(({ object }) => object));
  return [
    ...unread,
    ...read.flatMap(({ file, object }, i) =>
      (found[i] ?? []).map((problem) => ({ file, object: nameOf(object), ...problem })),
    ),
  ];
}

function nameOf(object: unknown): string {
  const { metadata } = (object ?? {}) as { metadata?: { name?: unknown } | null };
  return String(metadata?.name ?? "");
}

async function read(file: string): Promise<readonly Read[]> {
  const text = await readFile(file, "utf8").catch((error: Error) => {
    const why: Readonly<Record<string, string>> = {
      ENOENT: "there is no such file",
      EISDIR: "is a folder: name the files in it",
      EACCES: "this user has no permission to read it",
    };
    throw new UsageError(`${shown(file)}: ${why[errnoOf(error) ?? ""] ?? error.message}`);
  });
  return parseAllDocuments(text).flatMap((entry): readonly Read[] => {
    const [syntax] = entry.errors;
    if (syntax !== undefined) return [{ file, error: syntax.message }];
    try {
      const object: unknown = entry.toJS();
      return object === null ? [] : [{ file, object }];
    } catch (error) {
      // An alias of nothing, or more of them than anybody writes.
      return [{ file, error: (error as Error).message }];
    }
  });
}
