import completion from "@bomb.sh/tab/commander";
import { Command } from "commander";
import { ApiError } from "#operators/controller-kit/errors.ts";
import { BusError } from "#runtime/bus/errors.ts";
import { HandoverError } from "#runtime/handover/errors.ts";
import { assignmentsCommand } from "./assignments.ts";
import { checkCommand } from "./check.ts";
import { deadLettersCommand } from "./dead-letters.ts";
import { getCommand } from "./deployments.ts";
import { haltCommands } from "./halt.ts";
import { historyCommand } from "./history.ts";
import { lintCommand } from "./lint.ts";
import { moveCommand } from "./move.ts";
import { promoteEnvCommand } from "./promote-env.ts";
import { verbCommands } from "./verbs.ts";

// The command line for people and scripts. Exit codes: 0 done, 1 failed.

const program = new Command("baton")
  .description("Progressive delivery for machine-learning models that trade on streams")
  .showHelpAfterError();
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
completion(program);

try {
  await program.parseAsync();
} catch (error) {
  const coded = error instanceof BusError || error instanceof HandoverError;
  if (error instanceof ApiError) console.error(`error ${error.kind}: ${error.message}`);
  else console.error(coded ? `error ${error.code}: ${error.message}` : `error: ${(error as Error).message}`);
  process.exitCode = 1;
}
