import type { OutRecord } from "../port.ts";

/** Bytes that a record's framing adds, roughly. */
const OVERHEAD = 70;

/** About how many bytes a record takes in a request. */
export function recordBytes(record: OutRecord): number {
  let bytes = OVERHEAD + (record.value?.length ?? 0) + (record.key?.length ?? 0);
  for (const name in record.headers) bytes += 4 + name.length + (record.headers[name]?.length ?? 0);
  return bytes;
}

/** Cuts records into runs of at most so many bytes, or of one record where that alone is larger. */
export function chunks(records: readonly OutRecord[], limit: number): readonly OutRecord[][] {
  const result: OutRecord[][] = [];
  let current: OutRecord[] = [];
  let bytes = 0;
  for (const record of records) {
    const size = recordBytes(record);
    if (current.length > 0 && bytes + size > limit) {
      result.push(current);
      current = [];
      bytes = 0;
    }
    current.push(record);
    bytes += size;
  }
  if (current.length > 0) result.push(current);
  return result;
}
