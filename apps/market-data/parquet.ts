import { type FileHandle, open } from "node:fs/promises";
import {
  type AsyncBuffer,
  type FileMetaData,
  parquetMetadataAsync,
  parquetRead,
  parquetSchema,
} from "hyparquet";
import { compressors } from "hyparquet-compressors";
import type { Row } from "./csv.ts";
import { SourceError } from "./errors.ts";

const MAGIC = "PAR1";
/** Magic, length of the footer, and magic again. */
const LEAST_BYTES = 12;
/** Most bytes, uncompressed, and rows of a row group: it is in memory as a whole. */
const MAX_GROUP_BYTES = 1024 ** 3;
const MAX_GROUP_ROWS = 10_000_000;

type RowGroup = FileMetaData["row_groups"][number];

/** Whether a file is meant as Parquet, or begins as one. */
export async function isParquet(file: string): Promise<boolean> {
  if (/\.(parquet|parq|pq)$/i.test(file)) return true;
  const handle = await open(file);
  try {
    return (await slice(handle, 0, MAGIC.length)).toString("latin1") === MAGIC;
  } finally {
    await handle.close();
  }
}

/**
 * The rows of a Parquet file, those of one row group at a time: a day of trades does not fit into memory. Of the
 * columns only those that are `wanted` are read. `check` is given the file's columns before any row, as are the codecs
 * and the places of all row groups. Throws SourceError BAD_FILE.
 */
export async function* parquetRows(
  file: string,
  wanted: ReadonlySet<string>,
  check: (columns: readonly string[]) => void,
): AsyncIterable<Row> {
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    const buffer: AsyncBuffer = {
      byteLength: size,
      slice: async (start, end = size) => {
        const bytes = await slice(handle, start, end);
        return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer;
      },
    };
    const metadata = await readMetadata(file, buffer);
    const names = parquetSchema(metadata).children.map(({ element }) => element.name);
    check(names);
    const columns = names.filter((name) => wanted.has(name));
    checkCount(file, metadata);
    for (const [index, group] of metadata.row_groups.entries()) checkGroup(file, index, group, columns, size);
    let start = 0;
    for (const [index, group] of metadata.row_groups.entries()) {
      yield* groupRows(file, buffer, metadata, { index, start, count: Number(group.num_rows) }, columns);
      start += Number(group.num_rows);
    }
  } finally {
    await handle.close();
  }
}

async function slice(handle: FileHandle, start: number, end: number): Promise<Buffer> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(end - start), 0, end - start, start);
  return buffer.subarray(0, bytesRead);
}

async function readMetadata(file: string, buffer: AsyncBuffer): Promise<FileMetaData> {
  const { byteLength } = buffer;
  const text = async (start: number, end: number) =>
    Buffer.from(await buffer.slice(start, end)).toString("latin1");
  if (byteLength === 0) throw new SourceError("BAD_FILE", `${file}: the file is empty`);
  const head = await text(0, Math.min(MAGIC.length, byteLength));
  if (head === "PARE") throw new SourceError("BAD_FILE", `${file}: the Parquet file is encrypted`);
  if (head !== MAGIC)
    throw new SourceError("BAD_FILE", `${file}: no Parquet file, it does not begin with PAR1`);
  if (byteLength < LEAST_BYTES || (await text(byteLength - MAGIC.length, byteLength)) !== MAGIC)
    throw new SourceError("BAD_FILE", `${file}: the Parquet file is cut off, it does not end with PAR1`);
  try {
    return await parquetMetadataAsync(buffer);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new SourceError("BAD_FILE", `${file}: the footer cannot be read: ${message}`, { cause: error });
  }
}

/** What the footer counts must be what its row groups count: a damaged footer may still be read. */
function checkCount(file: string, { num_rows, row_groups }: FileMetaData): void {
  const rows = row_groups.reduce((sum, group) => sum + group.num_rows, 0n);
  if (rows !== num_rows)
    throw new SourceError("BAD_FILE", `${file}: ${num_rows} rows, and ${rows} in its row groups`);
}

/** Throws for a row group that could not be read, before anything of the file is published. */
function checkGroup(
  file: string,
  index: number,
  group: RowGroup,
  columns: readonly string[],
  size: number,
): void {
  const where = `${file}, row group ${index + 1}`;
  const read = group.columns.filter(({ meta_data }) => columns.includes(meta_data?.path_in_schema[0] ?? ""));
  let bytes = 0;
  for (const { file_path, meta_data } of read) {
    if (meta_data === undefined) throw new SourceError("BAD_FILE", `${where}: a column has no description`);
    const { codec, path_in_schema, num_values, total_compressed_size, total_uncompressed_size } = meta_data;
    const at = `${where}, column ${path_in_schema.join(".")}`;
    if (file_path !== undefined) throw new SourceError("BAD_FILE", `${at}: is in another file, ${file_path}`);
    if (codec !== "UNCOMPRESSED" && compressors[codec] === undefined)
      throw new SourceError("BAD_FILE", `${at}: the codec ${codec ?? "of an unknown number"} cannot be read`);
    if (num_values !== group.num_rows)
      throw new SourceError("BAD_FILE", `${at}: ${num_values} values in ${group.num_rows} rows`);
    const start = meta_data.dictionary_page_offset ?? meta_data.data_page_offset;
    if (start + total_compressed_size > BigInt(size))
      throw new SourceError("BAD_FILE", `${at}: ends beyond the end of the file`);
    bytes += Number(total_uncompressed_size);
  }
  if (bytes > MAX_GROUP_BYTES || group.num_rows > MAX_GROUP_ROWS) {
    const is = `${group.num_rows} rows and ${Math.ceil(bytes / 1024 ** 2)} MiB`;
    const most = `${MAX_GROUP_ROWS} rows and ${MAX_GROUP_BYTES / 1024 ** 2} MiB`;
    throw new SourceError("BAD_FILE", `${where}: ${is}, where at most ${most} are read at once`);
  }
}

interface GroupPlace {
  readonly index: number;
  readonly start: number;
  readonly count: number;
}

/** All columns of a group are read before its first row is given: nothing of a broken group is published. */
async function* groupRows(
  file: string,
  buffer: AsyncBuffer,
  metadata: FileMetaData,
  group: GroupPlace,
  columns: readonly string[],
): AsyncIterable<Row> {
  const cursors: (readonly [string, Iterator<unknown>])[] = [];
  for (const column of columns) {
    const place = `${file}, row group ${group.index + 1}, column ${column}`;
    cursors.push([column, each(await readColumn(place, buffer, metadata, group, column))]);
  }
  for (let i = 0; i < group.count; i++) {
    const row: Record<string, unknown> = {};
    for (const [name, cursor] of cursors) row[name] = cursor.next().value;
    yield { row: group.start + i + 1, columns: row };
  }
}

function* each(chunks: readonly ArrayLike<unknown>[]): Iterator<unknown> {
  for (const chunk of chunks) for (let i = 0; i < chunk.length; i++) yield chunk[i];
}

/** A column of a row group in the pieces in which the library decodes it: numbers stay in typed arrays. */
async function readColumn(
  place: string,
  file: AsyncBuffer,
  metadata: FileMetaData,
  { start, count }: GroupPlace,
  column: string,
): Promise<readonly ArrayLike<unknown>[]> {
  const chunks: ArrayLike<unknown>[] = [];
  try {
    await parquetRead({
      ...{ file, metadata, compressors, columns: [column], rowStart: start, rowEnd: start + count },
      onChunk: ({ columnData }) => chunks.push(columnData),
    });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new SourceError("BAD_FILE", `${place}: ${message}`, { cause: error });
  }
  const seen = chunks.reduce((sum, { length }) => sum + length, 0);
  if (seen !== count) throw new SourceError("BAD_FILE", `${place}: ${seen} values, not ${count}`);
  return chunks;
}
