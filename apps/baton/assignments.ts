import { Command } from "commander";
import { debtorOf } from "#runtime/handover/conduct.ts";
import { LedgerFollower } from "#runtime/handover/ledger.ts";
import { type LedgerState, type PartitionState, placeOf } from "#runtime/handover/rules.ts";
import {
  type Common,
  chooseDeployment,
  columns,
  common,
  instrumentName,
  stopSignal,
  withBus,
} from "./common.ts";

/** One instrument (or all others) in one partition. */
interface Assignment {
  readonly instrument: string;
  readonly partition: string;
  readonly revision: string;
  readonly epoch: number;
  readonly since: string;
  /** Set when it has been let go: the first offset that the revision no longer decides. */
  readonly until?: string;
}

interface OpenMove {
  readonly epoch: number;
  readonly instruments: readonly string[];
  readonly from: string | null;
  readonly to: string;
  readonly partition: string;
  readonly waitsFor: string;
}

/** `baton assignments`: who decides what. */
export function assignmentsCommand(): Command {
  return common(new Command("assignments"))
    .argument("[deployment]", "the deployment; may be left out when there is one only")
    .description("show which revision decides on which instrument, since which offset")
    .option("-w, --watch", "go on showing it when it changes")
    .action(async (named: string | undefined, options: Common & { watch?: boolean }) => {
      await withBus(options, async (bus) => {
        const deployment = await chooseDeployment(bus, named);
        const stop = stopSignal();
        let failed: Error | undefined;
        const follower = new LedgerFollower({
          bus,
          deployment,
          onFatal: (error) => {
            failed = error;
          },
        });
        await follower.start();
        await follower.untilEnd();
        const show = () => {
          const halted = follower.halt?.halted ? follower.halt.reason : undefined;
          const { assignments, open } = describe(follower.state);
          if (options.json)
            console.log(JSON.stringify({ deployment, halted: halted ?? null, assignments, open }));
          else console.log(draw(deployment, halted, assignments, open));
        };
        show();
        if (options.watch) {
          let seen = follower.state;
          while (!stop.aborted && failed === undefined) {
            await follower.until((state) => state !== seen, stop).catch(() => {});
            if (stop.aborted) break;
            seen = follower.state;
            if (!options.json && process.stdout.isTTY) process.stdout.write("\x1b[2J\x1b[H");
            show();
          }
        }
        await follower.close();
        if (failed !== undefined) throw failed;
      });
    });
}

export function describe(state: LedgerState): {
  readonly assignments: readonly Assignment[];
  readonly open: readonly OpenMove[];
} {
  const assignments: Assignment[] = [];
  const open: OpenMove[] = [];
  for (const [partition, entry] of state.partitions) {
    for (const [instrument, { revision, epoch, from, to }] of entry.holdings) {
      const until = to === undefined ? {} : { until: String(to) };
      assignments.push({ instrument, partition, revision, epoch, since: String(from), ...until });
    }
    for (const { epoch, keys, from, to } of entry.moves) {
      open.push({ epoch, instruments: keys, from, to, partition, waitsFor: waitsFor(entry, partition) });
    }
  }
  const byName = (a: Assignment, b: Assignment) =>
    a.instrument.localeCompare(b.instrument) || a.partition.localeCompare(b.partition);
  return { assignments: assignments.toSorted(byName), open };
}

function waitsFor(state: PartitionState, partition: string): string {
  const debtor = debtorOf(state, placeOf(partition));
  if (debtor === undefined) return "";
  return `${debtor.revision} to ${debtor.owes === "release" ? "let go" : "take over"}`;
}

function draw(
  deployment: string,
  halted: string | undefined,
  assignments: readonly Assignment[],
  open: readonly OpenMove[],
): string {
  const rows = assignments.map(({ instrument, partition, revision, epoch, since, until }) => [
    instrumentName(instrument),
    partition,
    revision,
    String(epoch),
    since,
    until ?? "",
  ]);
  const lines = [
    `${deployment}${halted === undefined ? "" : ` · HALTED: ${halted}`}`,
    columns([["INSTRUMENT", "PARTITION", "REVISION", "EPOCH", "SINCE", "UNTIL"], ...rows]),
  ];
  if (rows.length === 0)
    lines.push(`nobody decides yet; give it to a revision: baton move '*' --to <revision>`);
  for (const { epoch, instruments, from, to, partition, waitsFor: waits } of open) {
    lines.push(
      `request ${epoch}: ${instruments.join(",")} ${from ?? "nobody"} → ${to} on ${partition}, waits for ${waits}`,
    );
  }
  return `${lines.join("\n")}\n`;
}
