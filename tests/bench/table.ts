import { cpus, totalmem } from "node:os";
import { saveOnExit } from "./results.ts";

/** Median, least and most of some runs. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const median =
    sorted.length % 2 === 1
      ? (sorted[middle] ?? Number.NaN)
      : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
  return { median, min: sorted[0] ?? Number.NaN, max: sorted.at(-1) ?? Number.NaN };
}

export function percentile(sorted: ArrayLike<number>, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

export function show(value: Spread, digits = 0): string {
  const text = (number: number) =>
    number.toLocaleString("en-US", { maximumFractionDigits: digits, minimumFractionDigits: digits });
  return `${text(value.median)} [${text(value.min)}–${text(value.max)}]`;
}

/** Prints a Markdown table, and with SAVE=1 keeps it for docs/reference/benchmarks.md. */
export function table(
  title: string,
  header: readonly string[],
  rows: readonly (readonly string[])[],
  bar?: string,
): void {
  console.log(`\n### ${title}\n`);
  console.log(`| ${header.join(" | ")} |`);
  console.log(`|${header.map(() => "---").join("|")}|`);
  for (const row of rows) console.log(`| ${row.join(" | ")} |`);
  saveOnExit({ title, header, rows, machine: machine(), ...(bar === undefined ? {} : { bar }) });
}

/** The machine that the figures are of, for the head of a report. */
export function machine(): string {
  const [cpu] = cpus();
  const gib = Math.round(totalmem() / 2 ** 30);
  const date = new Date().toISOString().slice(0, 10);
  return `${date}, ${cpus().length} × ${cpu?.model ?? "?"}, ${gib} GiB, Node ${process.versions.node}`;
}

/** Runs every contestant `runs` times in turn, so that what slows the machine slows all of them. */
export async function alternate<T>(
  contestants: Readonly<Record<string, () => Promise<T>>>,
  runs: number,
): Promise<Map<string, T[]>> {
  const results = new Map<string, T[]>(Object.keys(contestants).map((name) => [name, []]));
  for (let run = 0; run < runs; run++) {
    const names = Object.keys(contestants);
    if (run % 2 === 1) names.reverse();
    for (const name of names) {
      const result = await contestants[name]?.();
      if (result !== undefined) results.get(name)?.push(result);
    }
  }
  return results;
}
