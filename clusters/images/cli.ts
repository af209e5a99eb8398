import { Command, InvalidArgumentError } from "commander";
import { LocalError, messageOf } from "../local/errors.ts";
import { buildImages, RECORDS } from "./build.ts";
import { SERVER_IMAGES, SERVICE_IMAGES } from "./catalog.ts";

const program = new Command("images")
  .description(
    "Container images of Baton's services, and of the servers that a cluster without a registry needs",
  )
  // 2 where the line is not understood, 1 where it fails.
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
  .showHelpAfterError();

program
  .command("build")
  .description("build images on the local Docker engine, with a bill of materials and provenance of each")
  .argument("[names...]", `which; all when none is named (${all().join(", ")})`)
  .option("--from <prefix>", "what stands before the names", "baton")
  .option("--tag <tag>", "their tag", "kind")
  .option(
    "--base <image@sha256:...>",
    "an image with Node in /usr/local/bin, instead of one made FROM scratch",
    base,
  )
  .option("--json", "print JSON")
  .action(async (only: string[], flags: { from: string; tag: string; base?: string; json?: boolean }) => {
    const built = await buildImages({ ...flags, only, progress: (line) => console.error(line) });
    if (flags.json) {
      console.log(JSON.stringify(built, null, 2));
      return;
    }
    for (const { reference, bytes, materials, id } of built) {
      const size = `${(bytes / 1e6).toFixed(0)} MB`;
      console.log(
        `${reference.padEnd(30)}${size.padStart(8)}  ${String(materials).padStart(4)} parts of others  ${id.slice(7, 19)}`,
      );
    }
    console.log(`what each is made of, and how it came to be: ${RECORDS}`);
  });

function all(): string[] {
  return [...SERVICE_IMAGES, ...SERVER_IMAGES].map(({ name }) => name);
}

function base(text: string): string {
  if (/@sha256:[0-9a-f]{64}$/.test(text)) return text;
  throw new InvalidArgumentError("name it by digest, image@sha256:...");
}

try {
  await program.parseAsync();
} catch (error) {
  console.error(error instanceof LocalError ? `error ${error.code}: ${error.message}` : messageOf(error));
  process.exitCode = 1;
}
