import { spawnSync } from "node:child_process";
import { constants, existsSync } from "node:fs";
import { access, copyFile, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, isAbsolute, join } from "node:path";
import { errnoOf, LocalError, messageOf } from "../errors.ts";
import { type ExecOptions, type ExecResult, exec } from "./exec.ts";
import { installOnce } from "./install.ts";
import { ensureClassArchive } from "./kafka-classes.ts";
import { type Downloads, downloadRelease } from "./release.ts";
import { candidates, TOOLS, type Tool, toolFolder } from "./tools.ts";

/** Where each tool is: the path of a binary, or for `kafka` the folder of its jars. */
export interface Toolchain {
  readonly paths: ReadonlyMap<string, string>;
}

export interface ToolchainOptions {
  /** Told of everything that takes time, a line each. */
  readonly progress: (line: string) => void;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Ends what is being fetched or built; what is half done is removed, and the promise rejects with the reason. */
  readonly signal?: AbortSignal | undefined;
  /** What is needed beside the local cluster's own. */
  readonly more?: readonly Tool[];
  /** The names of those that are needed, where it is not all. */
  readonly only?: readonly string[];
}

const here = import.meta.dirname;

/** Folder for downloads and builds: BATON_CACHE, or the user's cache folder. Never in the repository. */
export function cacheFolder(env: Readonly<Record<string, string | undefined>> = process.env): string {
  return (
    env["BATON_CACHE"] ?? join(env["XDG_CACHE_HOME"] ?? join(env["HOME"] ?? homedir(), ".cache"), "baton")
  );
}

/** The path of a tool that {@link ensureToolchain} found. */
export function toolPath(toolchain: Toolchain, name: string): string {
  const path = toolchain.paths.get(name);
  if (path === undefined) throw new LocalError("TOOL_MISSING", `${name} is not part of the toolchain`);
  return path;
}

/** Finds every tool of the local cluster, and fetches or builds what is missing. */
export async function ensureToolchain(options: ToolchainOptions): Promise<Toolchain> {
  const env = options.env ?? process.env;
  const cache = cacheFolder(env);
  const found = new Map<string, string>();
  const missing: Tool[] = [];
  const { more = [], only } = options;
  const tools = [...TOOLS, ...more].filter(({ name }) => only === undefined || only.includes(name));
  for (const tool of tools) {
    const path = await find(tool, env, cache);
    if (path === undefined) missing.push(tool);
    else found.set(tool.name, path);
  }
  if (missing.length > 0) {
    const seconds = missing.reduce((sum, tool) => sum + tool.coldSeconds, 0);
    options.progress(
      `toolchain: ${missing.map((tool) => tool.name).join(", ")} missing; about ${minutes(seconds)} where all is built`,
    );
    const downloads: Downloads = { ...options, env, unusable: new Map() };
    // One Go build at a time (each uses every core); the downloads go beside it.
    const compiled = missing.filter((tool) => tool.source.kind === "go");
    const fetched = missing.filter((tool) => tool.source.kind !== "go");
    const queues = await Promise.allSettled([compiled, fetched].map((queue) => installAll(queue, downloads)));
    // Both have ended, and tidied up, before anybody is told.
    for (const queue of queues) if (queue.status === "rejected") throw queue.reason;
  }
  // Nothing is written beside jars that are somebody else's.
  const jars = found.get("kafka");
  if (env["KAFKA_LIBS"] === undefined && jars !== undefined)
    await ensureClassArchive(jars, options.progress, options.signal);
  return { paths: new Map(tools.map((tool) => [tool.name, found.get(tool.name) ?? ""])) };

  async function installAll(queue: readonly Tool[], downloads: Downloads): Promise<void> {
    for (const tool of queue) {
      options.signal?.throwIfAborted();
      const started = Date.now();
      const elapsed = () => `${((Date.now() - started) / 1000).toFixed(0)} s`;
      options.progress(`toolchain: ${verb(tool)} ${tool.name} ${tool.version} ...`);
      const ticker = setInterval(() => options.progress(`toolchain: ${tool.name} ... ${elapsed()}`), 15_000);
      try {
        await install(tool, cache, downloads);
      } finally {
        clearInterval(ticker);
      }
      const path = await find(tool, env, cache);
      if (path === undefined)
        throw new LocalError("BUILD_FAILED", `${tool.name} was installed but does not run`);
      found.set(tool.name, path);
      options.progress(`toolchain: ${tool.name} ${tool.version} ready after ${elapsed()}`);
    }
  }
}

function verb({ source }: Tool): string {
  return source.kind === "go" && source.release === undefined ? "building" : "fetching";
}

function minutes(seconds: number): string {
  return seconds < 90 ? `${seconds} s` : `${Math.ceil(seconds / 60)} min on two cores`;
}

async function find(
  tool: Tool,
  env: Readonly<Record<string, string | undefined>>,
  cache: string,
): Promise<string | undefined> {
  if (tool.source.kind === "maven") {
    const folder = env["KAFKA_LIBS"] ?? toolFolder(cache, tool);
    return existsSync(folder) ? folder : undefined;
  }
  const own = join(toolFolder(cache, tool), tool.name);
  for (const path of candidates(tool, env, cache)) {
    const runs = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    // Our own copy was checked when it was built; a version check of each would cost a second a start.
    if (runs && (path === own || goodVersion(path, tool))) return path;
  }
  return undefined;
}

function goodVersion(path: string, tool: Tool): boolean {
  const result = spawnSync(path, tool.versionArgs, { encoding: "utf8", timeout: 10_000 });
  return result.status === 0 && tool.accepts.test(`${result.stdout}${result.stderr}`);
}

async function install(tool: Tool, cache: string, downloads: Downloads): Promise<void> {
  const folder = toolFolder(cache, tool);
  const { progress, signal } = downloads;
  const onWait = (pid: number) =>
    progress(`toolchain: waiting for process ${pid}, which installs ${tool.name}`);
  const source = tool.source;
  switch (source.kind) {
    case "debian":
      return installDebian(source.package);
    case "maven":
      return installOnce(
        folder,
        async (temporary) => {
          await copyFile(join(here, "kafka", "pom.xml"), join(temporary, "pom.xml"));
          const goal = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies";
          const args = ["-q", "-B", "-f", join(temporary, "pom.xml"), goal, `-DoutputDirectory=${temporary}`];
          const fix =
            "install it (Debian: apt-get install maven), or name a folder of Kafka's jars in KAFKA_LIBS";
          const version = `-Dkafka.version=${tool.version}`;
          await must("mvn", [...args, "-DincludeScope=runtime", version], fix, { signal });
        },
        onWait,
        signal,
      );
    case "go":
      return installOnce(
        folder,
        async (temporary) => {
          if (source.release !== undefined) {
            const why = await downloadRelease(source.release, temporary, tool.name, downloads);
            if (why === undefined) return;
            progress(`toolchain: no ready ${tool.name} (${why}): building it ...`);
          }
          const output = join(temporary, tool.name);
          const args = ["build", "-trimpath", "-ldflags", source.ldflags, "-o", output, source.package];
          const fix =
            "install Go 1.26 or later, or put ready binaries into a folder named by KUBEBUILDER_ASSETS";
          const env = { CGO_ENABLED: "0", GOFLAGS: "-mod=readonly", GOWORK: "off" };
          const cwd = join(here, "go", source.module);
          await must("go", args, fix, { cwd, env, signal });
          if (source.files === undefined) return;
          const { of, folder: files } = source.files;
          const listed = await must("go", ["list", "-m", "-f", "{{.Dir}}", of], fix, { cwd, env, signal });
          const from = join(listed.tail.findLast((line) => isAbsolute(line)) ?? "", files);
          const to = join(temporary, basename(files));
          await mkdir(to);
          // One by one: what a module's folder holds is for reading only, the folder itself among it.
          for (const file of await readdir(from)) await copyFile(join(from, file), join(to, file));
        },
        onWait,
        signal,
      );
  }
}

/** Where a program is on the PATH. */
export async function which(command: string): Promise<string | undefined> {
  const { code, tail } = await exec("which", [command]);
  return code === 0 ? tail[0] : undefined;
}

/** Installs what a program comes with where it is not on the PATH. */
export async function ensureProgram(
  command: string,
  debianPackage: string,
  progress: (line: string) => void,
): Promise<void> {
  if ((await which(command)) !== undefined) return;
  progress(`installing ${debianPackage} ...`);
  await installDebian(debianPackage);
}

/**
 * Installs a Debian package without letting it start its daemon: the cluster runs its own on its own port.
 */
async function installDebian(name: string): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new LocalError("TOOL_MISSING", `${name} is missing: install it as root (apt-get install ${name})`);
  }
  const policy = "/usr/sbin/policy-rc.d";
  const ours = !existsSync(policy);
  if (ours) await writeFile(policy, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    const fix = `install ${name} by hand with this system's package manager`;
    const env = { DEBIAN_FRONTEND: "noninteractive" };
    // Package lists may be missing or stale, as on a bare image.
    await must("apt-get", ["update", "-q"], fix, { env });
    await must("apt-get", ["install", "-y", "-q", "--no-install-recommends", name], fix, { env });
  } finally {
    if (ours) await rm(policy, { force: true });
  }
}

async function must(
  command: string,
  args: readonly string[],
  fix: string,
  options: ExecOptions = {},
): Promise<ExecResult> {
  const result = await exec(command, args, options).catch((error: unknown) => {
    options.signal?.throwIfAborted();
    if (errnoOf(error) === "ENOENT")
      throw new LocalError("TOOL_MISSING", `${command} is not on the PATH: ${fix}`);
    throw new LocalError("BUILD_FAILED", `${command}: ${messageOf(error)}`, { cause: error });
  });
  if (result.code !== 0) {
    const how = result.signal === null ? `exit code ${result.code}` : `signal ${result.signal}`;
    throw new LocalError(
      "BUILD_FAILED",
      `${command} ${args[0]} ended with ${how}:\n${result.tail.join("\n")}`,
    );
  }
  return result;
}
