import { LocalError, messageOf } from "../errors.ts";
import { cacheFolder, ensureToolchain } from "./index.ts";

// Finds or builds the tools of the local cluster and prints where they are.
try {
  const { paths } = await ensureToolchain({ progress: (line) => console.error(line) });
  if (process.argv.includes("--json")) console.log(JSON.stringify(Object.fromEntries(paths), null, 2));
  else for (const [name, path] of paths) console.log(`${name.padEnd(26)}${path}`);
  console.error(`cache: ${cacheFolder()}`);
} catch (error) {
  console.error(error instanceof LocalError ? `error ${error.code}: ${error.message}` : messageOf(error));
  process.exitCode = 1;
}
