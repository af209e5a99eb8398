import completion from "@bomb.sh/tab/commander";
import { Command, CommanderError } from "commander";
import { ApiError } from "#operators/controller-kit/errors.ts";
import { BusError } from "#runtime/bus/errors.ts";
import { HandoverError } from "#runtime/handover/errors.ts";
import manifest from "../../package.json" with { type: "json" };
import { assignmentsCommand } from "./assignments.ts";
import { checkCommand } from "./check.ts";
import { messageOf } from "./common.ts";
import { deadLettersCommand } from "./dead-letters.ts";
import { getCommand } from "./deployments.ts";
import { EXAMPLES } from "./examples.ts";
import { haltCommands } from "./halt.ts";
import { historyCommand } from "./history.ts";
import { lintCommand } from "./lint.ts";
import { moveCommand } from "./move.ts";
import { promoteEnvCommand } from "./promote-env.ts";
import { verbCommands } from "./verbs.ts";

// The command line for people and scripts.

/** Exit code of a command line that is not understood; what is refused or fails is 1. */
const USAGE = 2;

/** The commands, with the examples of each. */
export function createProgram(): Command {
  const program = new Command("baton")
    .description("Progressive delivery for machine-learning models that trade on streams")
    .version(manifest.version, "--version", "print the version")
    .addHelpText("after", "\nExit codes: 0 done, 1 refused or failed, 2 not understood.");
  for (const command of [
    getCommand(),
    ...verbCommands(),
    lintCommand(),
    promoteEnvCommand(),
    assignmentsCommand(),
    moveCommand(),
    historyCommand(),
    ...haltCommands(),
    deadLettersCommand(),
    checkCommand(),
  ]) {
    program.addCommand(command);
  }
  for (const { command, path } of walk(program)) {
    const examples = EXAMPLES[path];
    if (examples !== undefined) command.addHelpText("after", `\nExamples:\n${drawn(examples)}`);
    command.exitOverride().showHelpAfterError(`See 'baton${path === "" ? "" : ` ${path}`} --help'.`);
  }
  completion(program);
  return program;
}

/** Each command with the words that lead to it. */
export function walk(
  command: Command,
  path = "",
): readonly { readonly command: Command; readonly path: string }[] {
  const below = command.commands.flatMap((inner) => walk(inner, `${path} ${inner.name()}`.trim()));
  return [{ command, path }, ...below];
}

/** As kubectl has them: what it is for, then the line. */
function drawn(examples: readonly (readonly [what: string, line: string])[]): string {
  return examples.map(([what, line]) => `  # ${what}\n  ${line}`).join("\n\n");
}

/** Runs a command line; resolves with its exit code: 0 done, 1 refused or failed, 2 not understood. */
export async function runCli(argv: readonly string[]): Promise<number> {
  process.exitCode = undefined;
  try {
    await createProgram().parseAsync(argv, { from: "user" });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    // commander has said it.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE;
    if (error instanceof ApiError) console.error(`error ${error.kind}: ${error.message}`);
    else if (error instanceof BusError || error instanceof HandoverError)
      console.error(`error ${error.code}: ${error.message}`);
    else console.error(`error: ${messageOf(error)}`);
    return 1;
  }
}
