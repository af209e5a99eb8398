import { createReadStream } from "node:fs";
import { type CsvError, parse } from "csv-parse";
import { SourceError } from "./errors.ts";

/** A row of a file, counted from 1 without the header; `problem` where it has not the fields of the header. */
export interface Row {
  readonly row: number;
  readonly columns: Readonly<Record<string, unknown>>;
  readonly problem?: string;
}

/** Longest row, characters; a quote that is never closed would take the rest of the file into memory. */
const MAX_ROW = 1024 * 1024;

/**
 * The rows of a CSV file with a header; a byte order mark, CRLF and quoted fields are understood. `check` is given the
 * header before any row. Throws SourceError BAD_FILE for a file that is no CSV.
 */
export async function* csvRows(
  file: string,
  check: (columns: readonly string[]) => void,
): AsyncIterable<Row> {
  let header: readonly string[] | undefined;
  const input = createReadStream(file);
  const parser = input.pipe(
    parse({
      bom: true,
      trim: true,
      skip_empty_lines: true,
      // One bad row is one refused record.
      relax_column_count: true,
      relax_quotes: true,
      max_record_size: MAX_ROW,
    }),
  );
  // A pipe passes on no errors.
  input.once("error", (error) => parser.destroy(error));
  let row = 0;
  try {
    for await (const record of parser as AsyncIterable<readonly string[]>) {
      if (header === undefined) {
        header = record;
        check(header);
        continue;
      }
      row += 1;
      const { length } = header;
      const problem = record.length === length ? {} : { problem: `${record.length} fields, not ${length}` };
      yield { row, columns: Object.fromEntries(header.map((name, i) => [name, record[i]])), ...problem };
    }
  } catch (error) {
    if (error instanceof SourceError) throw error;
    const { code, message } = error as CsvError;
    const at = String(code).startsWith("CSV_") ? `, after row ${row}` : "";
    throw new SourceError("BAD_FILE", `${file}${at}: ${message}`, { cause: error });
  } finally {
    input.destroy();
  }
  if (header === undefined) throw new SourceError("BAD_FILE", `${file}: the file is empty`);
}
