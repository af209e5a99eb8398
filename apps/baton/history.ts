import { Command } from "commander";
import { verifyHistory } from "#runtime/handover/history/read.ts";
import { RULES, type Rule, type Verdict } from "#runtime/handover/history/verify.ts";
import { type Common, chooseDeployment, common, withBus } from "./common.ts";
import { releasesCommand } from "./deployments.ts";

/** `baton history verify`: whether everything that must hold has held; `baton history list`: releases. */
export function historyCommand(): Command {
  const history = new Command("history").description("what has been released and decided");
  history.addCommand(releasesCommand());
  history.addCommand(
    common(new Command("verify"))
      .argument("[deployment]", "the deployment; may be left out when there is one only")
      .description(
        "read the whole history and check that nothing is lost, doubled or decided by the wrong revision",
      )
      .addHelpText("after", "\nExit code 1 when a rule is broken.")
      .action(async (named: string | undefined, options: Common) => {
        await withBus(options, async (bus) => {
          const deployment = await chooseDeployment(bus, named);
          const started = Date.now();
          let last = 0;
          const verdict = await verifyHistory(bus, deployment, ({ topic, records }) => {
            if (options.json || Date.now() - last < 500) return;
            last = Date.now();
            console.error(`${records.toLocaleString("en-US")} records read, now ${topic}`);
          });
          const seconds = (Date.now() - started) / 1000;
          console.log(
            options.json
              ? JSON.stringify({ deployment, seconds, ...verdict })
              : draw(deployment, verdict, seconds),
          );
          if (!verdict.ok) process.exitCode = 1;
        });
      }),
  );
  return history;
}

function draw(deployment: string, verdict: Verdict, seconds: number): string {
  const { ok, counts, broken, violations, pauseMs } = verdict;
  const number = (value: number) => value.toLocaleString("en-US");
  const lines = [
    `${deployment}: ${ok ? "everything holds" : "BROKEN"} (${seconds.toFixed(1)} s)`,
    `  input ${number(counts.inputs)} · live ${number(counts.live)} · rejected ${number(counts.rejected)} · withheld ${number(counts.withheld)} · shadow ${number(counts.shadow)}`,
    `  hand-overs ${number(counts.handovers)}, of which forced ${number(counts.forced)} · not decided yet ${number(counts.pending)} · from before the first owner ${number(counts.unowned)}`,
    ...(pauseMs === undefined
      ? []
      : [`  pauses of a partition: p50 ${pauseMs.p50} ms · p99 ${pauseMs.p99} ms · max ${pauseMs.max} ms`]),
    ...(Object.keys(RULES) as Rule[]).map((rule) => {
      const count = broken[rule];
      return `  ${count === 0 ? "ok    " : "BROKEN"} ${rule} ${RULES[rule]}${count === 0 ? "" : `: ${number(count)} times`}`;
    }),
    ...violations.map(
      ({ rule, topic, partition, offset, detail }) =>
        `  ${rule} at ${topic}/${partition}@${offset}: ${detail}`,
    ),
  ];
  return lines.join("\n");
}
