import { Command } from "commander";
import { type DeadLetter, parseDeadLetter, replayDeadLetters } from "#runtime/bus/dead-letters.ts";
import type { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { readToEnd } from "#runtime/bus/read.ts";
import { type Common, named, numberIn, withBus } from "./common.ts";
import { noSuch } from "./names.ts";

const LETTERS = "baton.dlq.";
const COUNT = numberIn(1, "a whole number above 0", true);

/** `baton dead-letters`: what services could not use. */
export function deadLettersCommand(): Command {
  const letters = new Command("dead-letters").description("records that a service could not use");

  letters
    .command("list")
    .argument("<service>", "service or deployment whose dead letters to read")
    .description("show every dead letter with where it came from and why")
    .option("--brokers <list>", "Kafka's addresses (default: KAFKA_BROKERS)")
    .option("--code <code>", "only letters with this code")
    .option("--json", "print a JSON object a letter")
    .action(async (service: string, options: Common & { code?: string }) => {
      await withBus(options, async (bus) => {
        let count = 0;
        await readToEnd(bus, await lettersOf(bus, service), (record) => {
          const letter = parseDeadLetter(record);
          if (letter === undefined || (options.code !== undefined && letter.code !== options.code)) return;
          count += 1;
          console.log(options.json ? JSON.stringify(summary(letter)) : line(letter));
        });
        if (!options.json) console.log(`${count} dead letter${count === 1 ? "" : "s"}`);
      });
    });

  letters
    .command("replay")
    .argument("<service>", "service or deployment whose dead letters to send again")
    .description("send dead letters to the topic and partition that they came from")
    .option("--brokers <list>", "Kafka's addresses (default: KAFKA_BROKERS)")
    .option("--code <code>", "only letters with this code")
    .option("--from <topic>", "only letters from this topic")
    .option("--max-attempts <count>", "leave letters that have failed so often", COUNT, 5)
    .option("--dry-run", "count only")
    .option("--json", "print the result as JSON")
    .action(
      async (
        service: string,
        options: Common & { code?: string; from?: string; maxAttempts: number; dryRun?: boolean },
      ) => {
        const { maxAttempts } = options;
        await withBus(options, async (bus) => {
          const letters = await lettersOf(bus, service);
          if (options.from !== undefined) await checkTopic(bus, options.from);
          const result = await replayDeadLetters(bus, letters, {
            maxAttempts,
            ...(options.code === undefined ? {} : { code: options.code }),
            ...(options.from === undefined ? {} : { from: options.from }),
            ...(options.dryRun === undefined ? {} : { dryRun: options.dryRun }),
          });
          const { replayed, skipped } = result;
          const verb = options.dryRun ? "would be replayed" : "replayed";
          console.log(
            options.json ? JSON.stringify({ replayed, skipped }) : `${replayed} ${verb}, ${skipped} skipped`,
          );
        });
      },
    );
  return letters;
}

/** The topic of a service's dead letters; throws where it has none. */
async function lettersOf(bus: KafkaBus, service: string): Promise<string> {
  const known = await named(bus, LETTERS);
  if (!known.includes(service)) throw noSuch("service with dead letters", service, known);
  return `${LETTERS}${service}`;
}

async function checkTopic(bus: KafkaBus, topic: string): Promise<void> {
  const known = await named(bus, "");
  if (!known.includes(topic)) throw noSuch("topic", topic, known);
}

function summary(letter: DeadLetter) {
  const { topic, partition, offset, code, error, attempts, truncatedFrom } = letter;
  return { topic, partition, offset: String(offset), code, error, attempts, truncatedFrom };
}

function line(letter: DeadLetter): string {
  const place = `${letter.topic}/${letter.partition}@${letter.offset}`;
  return `${place.padEnd(40)} ${letter.code.padEnd(20)} tried ${letter.attempts}×  ${letter.error}`;
}
