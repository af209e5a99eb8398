import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import * as z from "zod";

// The latest figures of each benchmark, from which docs/reference/benchmarks.md is made.

const savedTable = z.strictObject({
  title: z.string(),
  header: z.array(z.string()),
  rows: z.array(z.array(z.string())),
  /** What the figures have to reach. */
  bar: z.string().optional(),
  /** Date, processors, memory and Node of the run. */
  machine: z.string(),
  /** Abbreviated commit of the run. */
  commit: z.string(),
});
const savedBenchmark = z.strictObject({
  command: z.string(),
  /** What was measured, and how. */
  about: z.string(),
  tables: z.array(savedTable),
});
export type SavedBenchmark = z.output<typeof savedBenchmark>;
type Table = z.input<typeof savedTable>;

const folder = join(import.meta.dirname, "results");

/** Every benchmark that has been saved, by name. */
export function savedBenchmarks(): ReadonlyMap<string, SavedBenchmark> {
  const files = readdirSync(folder).filter((file) => file.endsWith(".json"));
  return new Map(files.toSorted().map((file) => [basename(file, ".json"), read(file)]));
}

function read(file: string): SavedBenchmark {
  return savedBenchmark.parse(JSON.parse(readFileSync(join(folder, file), "utf8")));
}

const tables: Table[] = [];

type Printed = Omit<Table, "commit" | "header" | "rows"> & {
  readonly header: readonly string[];
  readonly rows: readonly (readonly string[])[];
};

/** With SAVE=1 the tables of a run that came to its end replace those of the same titles. */
export function saveOnExit({ header, rows, ...rest }: Printed): void {
  if (process.env["SAVE"] !== "1") return;
  if (tables.length === 0) process.once("exit", (code) => code === 0 && save());
  const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
  tables.push({ ...rest, header: [...header], rows: rows.map((row) => [...row]), commit });
}

function save(): void {
  const name = basename(process.argv[1] ?? "", ".ts");
  const before = savedBenchmarks().get(name) ?? { command: `npm run bench:${name}`, about: "", tables: [] };
  const kept = before.tables.filter(({ title }) => !tables.some((table) => table.title === title));
  const saved = { ...before, tables: [...kept, ...tables] };
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(saved, null, 2)}\n`);
}
