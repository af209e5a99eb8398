import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { chmod, mkdtemp, rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { LocalError, messageOf } from "../errors.ts";
import { exec } from "./exec.ts";

// Official binaries of the versions that the Go modules build. A checksum that is pinned here decides what is taken, not where
// it came from, so a mirror needs no trust.

/** One file of an official release. */
export interface ReleaseFile {
  readonly project: keyof typeof ADDRESSES;
  /** Below the project's address. */
  readonly path: string;
  /** SHA-256 of the file, in hexadecimal digits. */
  readonly sha256: string;
  /** Where the binary is inside, for a gzipped tar archive. */
  readonly member?: string;
}

/** Where the projects publish their releases. A mirror has a folder of each project's name with the same paths below it. */
const ADDRESSES = {
  kubernetes: "https://dl.k8s.io/release",
  etcd: "https://github.com/etcd-io/etcd/releases/download",
} as const;

/** Value of BATON_DOWNLOADS that builds everything from Go modules. */
const OFF = "off";
/** Nothing has arrived for so long: the address counts as not reachable. */
const SILENCE_MS = 15_000;
/** The largest binary has 85 MB. */
const MAX_BYTES = 300_000_000;
const REPORT_MS = 5_000;
/** Downloads of a file that break off. */
const ATTEMPTS = 2;

export interface Downloads {
  /** Why the address of a project cannot be used, once that is known: each is tried once. */
  readonly unusable: Map<string, string>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly progress: (line: string) => void;
  /** Ends a download: the promise rejects with the reason. */
  readonly signal?: AbortSignal | undefined;
  readonly silenceMs?: number;
}

/** The architecture as release files name it; undefined where there is none for this machine. */
export function releaseArchitecture(
  platform: string = process.platform,
  arch: string = process.arch,
): "amd64" | "arm64" | undefined {
  if (platform !== "linux") return undefined;
  return arch === "x64" ? "amd64" : arch === "arm64" ? "arm64" : undefined;
}

/**
 * Downloads a tool's binary into a folder that is thrown away when this fails. Resolves with why it could not be had; undefined
 * when it is there, whole and as pinned.
 */
export async function downloadRelease(
  file: ReleaseFile,
  folder: string,
  name: string,
  downloads: Downloads,
): Promise<string | undefined> {
  const { env, unusable } = downloads;
  const base = addressOf(file, env["BATON_DOWNLOADS"]);
  if (base === undefined) return `BATON_DOWNLOADS is ${OFF}`;
  const known = unusable.get(base);
  if (known !== undefined) return known;
  for (let attempt = 1; ; attempt++) {
    try {
      await fetchBinary(`${base}/${file.path}`, file, folder, name, downloads);
      return undefined;
    } catch (error) {
      downloads.signal?.throwIfAborted();
      if (error instanceof Interrupted && attempt < ATTEMPTS) continue;
      const reason = `${base}: ${reasonOf(error)}`;
      if (error instanceof Unreachable) unusable.set(base, reason);
      return reason;
    }
  }
}

/** Puts the binary of a release file into a folder; leaves nothing else there. */
async function fetchBinary(
  url: string,
  { sha256, member }: ReleaseFile,
  folder: string,
  name: string,
  downloads: Downloads,
): Promise<void> {
  const own = await mkdtemp(join(folder, "download-"));
  try {
    const path = join(own, basename(url));
    const sum = await download(url, path, name, downloads);
    if (sum !== sha256) throw new Error(`${basename(url)} has the SHA-256 ${sum}, not ${sha256}`);
    const binary = member === undefined ? path : await extracted(path, member, own);
    await chmod(binary, 0o755);
    await rename(binary, join(folder, name));
  } finally {
    await rm(own, { recursive: true, force: true });
  }
}

function addressOf({ project }: ReleaseFile, mirror: string | undefined): string | undefined {
  if (mirror === OFF) return undefined;
  if (mirror === undefined || mirror === "") return ADDRESSES[project];
  if (!URL.canParse(mirror) || !/^https?:$/.test(new URL(mirror).protocol))
    throw new LocalError("BAD_STATE", `BATON_DOWNLOADS is ${mirror}: not a URL of a mirror, and not ${OFF}`);
  return `${mirror.replace(/\/+$/, "")}/${project}`;
}

/** The server does not answer at all: it is not asked for the next file. */
class Unreachable extends Error {}

/** The answer broke off. */
class Interrupted extends Error {}

/** Writes what an address answers into a file; resolves with its SHA-256. */
async function download(
  url: string,
  path: string,
  name: string,
  { progress, signal, silenceMs = SILENCE_MS }: Downloads,
): Promise<string> {
  const silence = new AbortController();
  const timer = setTimeout(() => silence.abort(), silenceMs);
  const why = (error: unknown) =>
    silence.signal.aborted ? `nothing for ${silenceMs / 1000} s` : reasonOf(error);
  try {
    const abort = signal === undefined ? silence.signal : AbortSignal.any([silence.signal, signal]);
    const response = await fetch(url, { signal: abort }).catch((error: unknown) => {
      throw new Unreachable(why(error), { cause: error });
    });
    if (!response.ok || response.body === null) {
      await response.body?.cancel();
      throw new Error(`status ${response.status} for ${new URL(url).pathname}`);
    }
    const total = Number(response.headers.get("content-length") ?? 0);
    const hash = createHash("sha256");
    let bytes = 0;
    let reported = Date.now();
    const watch = new Transform({
      transform(chunk: Buffer, _, next) {
        timer.refresh();
        hash.update(chunk);
        bytes += chunk.length;
        if (Date.now() - reported > REPORT_MS) {
          reported = Date.now();
          progress(`toolchain: ${name} ... ${megabytes(bytes)} of ${total > 0 ? megabytes(total) : "?"} MB`);
        }
        next(bytes > MAX_BYTES ? new Error(`more than ${megabytes(MAX_BYTES)} MB`) : null, chunk);
      },
    });
    await pipeline(Readable.fromWeb(response.body), watch, createWriteStream(path)).catch(
      (error: unknown) => {
        throw bytes > MAX_BYTES ? error : new Interrupted(why(error), { cause: error });
      },
    );
    return hash.digest("hex");
  } finally {
    clearTimeout(timer);
  }
}

async function extracted(archive: string, member: string, folder: string): Promise<string> {
  const { code, tail } = await exec("tar", ["-xzf", archive, "-C", folder, member]);
  if (code !== 0) throw new Error(`${member} is not in the archive: ${tail.at(-1) ?? ""}`);
  return join(folder, member);
}

const megabytes = (bytes: number) => (bytes / 1e6).toFixed(0);

/** fetch hides what went wrong behind "fetch failed". */
function reasonOf(error: unknown): string {
  const isVague = error instanceof TypeError && error.cause !== undefined;
  return messageOf(isVague ? error.cause : error);
}
