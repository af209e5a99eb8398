import { promisify } from "node:util";
import { gzip, unzip, zstdCompress, zstdDecompress } from "node:zlib";
import snappy from "kafkajs-snappy";

// How batches are compressed, by the number in their attributes (https://kafka.apache.org/documentation/#recordbatch).

export const CODEC_NAMES = ["none", "gzip", "snappy", "lz4", "zstd"] as const;

/** Bits of a batch's attributes that say how it is compressed. */
export const CODEC_MASK = 0x07;

export interface Codec {
  compress(encoder: { readonly buffer: Buffer }): Promise<Buffer>;
  /** Rejects where the bytes are not what the codec writes. */
  decompress(buffer: Buffer): Promise<Buffer>;
}

/**
 * A batch is at most `max.message.bytes` (1 MiB unless somebody raised it) compressed; a real one is not a thousand times
 * that when it is unpacked. LZ4 and Snappy cannot get near it.
 */
const MAX_BYTES = 256 * 1024 * 1024;

/** Native, and few need it: loaded by the first batch. */
const lz4 = () => import("lz4-napi");

const limit = { maxOutputLength: MAX_BYTES };
const [zip, unzipped, zstd, unzstd] = [gzip, unzip, zstdCompress, zstdDecompress].map((work) =>
  promisify(
    work as (buffer: Buffer, options: object, done: (error: Error | null, out: Buffer) => void) => void,
  ),
) as [Work, Work, Work, Work];
type Work = (buffer: Buffer, options: object) => Promise<Buffer>;

/** By number; none where a batch is not compressed. */
export const CODECS: readonly (Codec | undefined)[] = [
  undefined,
  { compress: ({ buffer }) => zip(buffer, {}), decompress: (buffer) => unzipped(buffer, limit) },
  snappy(),
  {
    compress: async ({ buffer }) => (await lz4()).compressFrame(buffer),
    decompress: async (buffer) => (await lz4()).decompressFrame(buffer),
  },
  { compress: ({ buffer }) => zstd(buffer, {}), decompress: (buffer) => unzstd(buffer, limit) },
];
