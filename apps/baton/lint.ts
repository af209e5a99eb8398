import { readFile } from "node:fs/promises";
import { Command } from "commander";
import { parseAllDocuments } from "yaml";
import { objectProblems } from "#operators/model-deployment/api/lint.ts";
import { errnoOf, UsageError } from "./common.ts";
import { shown } from "./names.ts";

interface Problem {
  readonly file: string;
  readonly object: string;
  readonly field: string;
  readonly message: string;
}

/** `baton lint`: what the cluster would say of files, without a cluster. Exit code 1 when something is wrong. */
export function lintCommand(): Command {
  return new Command("lint")
    .argument("<files...>", "YAML files")
    .description("check files as the cluster would, without a cluster")
    .option("--json", "print JSON")
    .action(async (files: readonly string[], options: { json?: boolean }) => {
      const problems = (await Promise.all(files.map(problemsOf))).flat();
      if (options.json) console.log(JSON.stringify(problems));
      else if (problems.length === 0) console.log("nothing wrong");
      else
        for (const { file, object, field, message } of problems)
          console.log(`${file}: ${object} ${field}: ${message}`);
      if (problems.length > 0) process.exitCode = 1;
    });
}

async function problemsOf(file: string): Promise<readonly Problem[]> {
  const text = await readFile(file, "utf8").catch((error: Error) => {
    const why: Readonly<Record<string, string>> = {
      ENOENT: "there is no such file",
      EISDIR: "is a folder: name the files in it",
      EACCES: "this user has no permission to read it",
    };
    throw new UsageError(`${shown(file)}: ${why[errnoOf(error) ?? ""] ?? error.message}`);
  });
  return parseAllDocuments(text).flatMap((entry) => {
    const [syntax] = entry.errors;
    if (syntax !== undefined) return [{ file, object: "", field: "", message: syntax.message }];
    const object = entry.toJS() as { metadata?: { name?: string } } | null;
    if (object === null) return [];
    return objectProblems(object).map((problem) => ({
      file,
      object: object.metadata?.name ?? "",
      ...problem,
    }));
  });
}
