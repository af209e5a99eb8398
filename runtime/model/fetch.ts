import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { AwsClient } from "aws4fetch";
import { ModelError } from "./errors.ts";

const MAX_BYTES = 512 * 1024 * 1024;
const TIMEOUT_MS = 60_000;

export type Env = Readonly<Record<string, string | undefined>>;

/** The address of a file beside another one. */
export function sibling(uri: string, file: string): string {
  return uri.replace(/[^/]*$/, file);
}

/**
 * Reads a file by its address: `file:` (relative ones from the working folder), `http:`, `https:`, or
 * `s3://bucket/key` with the usual AWS_* variables (AWS_ENDPOINT_URL_S3 for other services than Amazon's).
 */
export async function fetchBytes(uri: string, env: Env = process.env): Promise<Buffer> {
  const scheme = /^([a-z0-9]+):/.exec(uri)?.[1];
  try {
    switch (scheme) {
      case "file":
        return await readFile(
          uri.startsWith("file://") ? fileURLToPath(uri) : resolve(uri.slice("file:".length)),
        );
      case "http":
      case "https":
        return await body(await fetch(uri, { signal: AbortSignal.timeout(TIMEOUT_MS) }));
      case "s3":
        return await body(await fetchS3(uri, env));
      default:
        throw new ModelError("BAD_URI", `${uri}: use file:, http:, https: or s3:`);
    }
  } catch (error) {
    if (error instanceof ModelError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    throw new ModelError("UNREACHABLE", `${uri}: ${message}`, { cause: error });
  }
}

async function fetchS3(uri: string, env: Env): Promise<Response> {
  const match = /^s3:\/\/([^/]+)\/(.+)$/.exec(uri);
  if (match === null) throw new ModelError("BAD_URI", `${uri}: write s3://bucket/key`);
  const [, bucket, key] = match as unknown as [string, string, string];
  const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN } = env;
  if (!AWS_ACCESS_KEY_ID || !AWS_SECRET_ACCESS_KEY) {
    throw new ModelError("UNREACHABLE", `${uri}: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set`);
  }
  const region = env["AWS_REGION"] ?? "us-east-1";
  const endpoint = env["AWS_ENDPOINT_URL_S3"] ?? `https://s3.${region}.amazonaws.com`;
  const client = new AwsClient({
    accessKeyId: AWS_ACCESS_KEY_ID,
    secretAccessKey: AWS_SECRET_ACCESS_KEY,
    ...(AWS_SESSION_TOKEN === undefined ? {} : { sessionToken: AWS_SESSION_TOKEN }),
    service: "s3",
    region,
    retries: 2,
  });
  const path = key.split("/").map(encodeURIComponent).join("/");
  return client.fetch(`${endpoint}/${bucket}/${path}`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
}

async function body(response: Response): Promise<Buffer> {
  if (!response.ok) {
    await response.body?.cancel();
    throw new Error(`HTTP ${response.status}`);
  }
  const length = Number(response.headers.get("content-length") ?? 0);
  if (length > MAX_BYTES) throw new Error(`${length} bytes, the limit is ${MAX_BYTES}`);
  const bytes = Buffer.from(await response.arrayBuffer());
  if (bytes.length > MAX_BYTES) throw new Error(`${bytes.length} bytes, the limit is ${MAX_BYTES}`);
  return bytes;
}
