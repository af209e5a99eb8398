/**
 * Kafka's murmur2 over the key's bytes, so that our partition of a key is the one that Java clients choose
 * (org.apache.kafka.common.utils.Utils.murmur2). Result is an unsigned 31-bit number.
 */
export function murmur2(data: Uint8Array): number {
  const m = 0x5bd1e995;
  const { length } = data;
  let h = 0x9747b28c ^ length;
  const view = new DataView(data.buffer, data.byteOffset, length);
  const end = length & ~3;
  for (let i = 0; i < end; i += 4) {
    let k = view.getInt32(i, true);
    k = Math.imul(k, m);
    k ^= k >>> 24;
    k = Math.imul(k, m);
    h = Math.imul(h, m) ^ k;
  }
  const rest = length & 3;
  if (rest === 3) h ^= view.getUint8(end + 2) << 16;
  if (rest >= 2) h ^= view.getUint8(end + 1) << 8;
  if (rest >= 1) h = Math.imul(h ^ view.getUint8(end), m);
  h ^= h >>> 13;
  h = Math.imul(h, m);
  h ^= h >>> 15;
  return h & 0x7fffffff;
}

const encoder = new TextEncoder();
const cache = new Map<string, number>();
const CACHE_LIMIT = 10_000;

/** Partition of a key. Hashes of the latest keys are kept: instruments repeat. */
export function partitionOf(key: string, partitions: number): number {
  let hash = cache.get(key);
  if (hash === undefined) {
    hash = murmur2(encoder.encode(key));
    if (cache.size >= CACHE_LIMIT) cache.clear();
    cache.set(key, hash);
  }
  return hash % partitions;
}
