import { Command } from "commander";
import { DEADLINES, planMove } from "#runtime/handover/conduct.ts";
import { Conductor, type ConductorEvent } from "#runtime/handover/conductor.ts";
import { HandoverError } from "#runtime/handover/errors.ts";
import { LedgerFollower } from "#runtime/handover/ledger.ts";
import { type LedgerState, type Place, placeKey, placeOf } from "#runtime/handover/rules.ts";
import {
  type Common,
  chooseDeployment,
  columns,
  common,
  instrumentName,
  numberIn,
  stopSignal,
  UsageError,
  withBus,
} from "./common.ts";
import { checkInstruments } from "./instruments.ts";
import { noSuch } from "./names.ts";

interface Options extends Common {
  readonly to: string;
  readonly deployment?: string;
  readonly releaseSeconds: number;
  readonly takeSeconds: number;
  readonly force?: boolean;
}

const SECONDS = numberIn(0, "a number of seconds up to a day", false, 86_400);
const INSTRUMENT = /^(\*|[A-Z0-9][A-Z0-9._-]{0,31})$/;

/** What moved in one partition, and how long nobody decided. */
export interface Pause {
  readonly epoch: number;
  readonly partition: string;
  readonly instruments: readonly string[];
  readonly from: string | null;
  readonly to: string;
  /** From the commit with the owner's last decisions to the one with the next owner's first, as this process saw them. */
  readonly pauseMs: number | null;
  readonly cut: string;
  readonly forced: boolean;
}

/** `baton move`: hands instruments over and follows that to its end. */
export function moveCommand(): Command {
  return common(new Command("move"))
    .argument("<instruments>", "instruments separated by commas, or '*' for all")
    .requiredOption("--to <revision>", "revision that is to decide on them")
    .option("-d, --deployment <name>", "the deployment; may be left out when there is one only")
    .option(
      "--release-seconds <seconds>",
      "after this the owner is made to let go",
      SECONDS,
      DEADLINES.releaseMs / 1000,
    )
    .option("--take-seconds <seconds>", "after this everything goes back", SECONDS, DEADLINES.takeMs / 1000)
    .option("--force", "also instruments that no record has named yet")
    .description("hand instruments over to another revision, and follow it to the end")
    .action(async (list: string, options: Options) => {
      const instruments = list.split(",").map((name) => name.trim());
      const deadlines = {
        releaseMs: options.releaseSeconds * 1000,
        takeMs: options.takeSeconds * 1000,
      };
      await withBus(options, async (bus) => {
        const deployment = await chooseDeployment(bus, options.deployment);
        const pauses = new Pauses();
        const watcher = new LedgerFollower({
          bus,
          deployment,
          onFatal: () => {},
          onRecord: (record) => pauses.see(record, Date.now()),
        });
        const conductor = new Conductor({
          bus,
          deployment,
          deadlines,
          onEvent: (event) => {
            if (!options.json) say(event);
          },
        });
        try {
          await watcher.start();
          await watcher.untilEnd();
          const from = watcher.state.epoch;
          // Before anything is begun: a conductor that begins ends the one before it.
          placesFor(watcher.state, options.to);
          if (options.force !== true || !instruments.every((name) => INSTRUMENT.test(name)))
            await checkInstruments(bus, watcher.state, instruments);
          await conductor.start();
          const places = placesFor(conductor.state, options.to);
          const epochs = await conductor.move(instruments, options.to, places, stopSignal());
          await watcher.until((state) => state.epoch >= conductor.state.epoch && state.requests.size === 0);
          const made = pauses.list.filter(({ epoch }) => epoch > from);
          const took = planMove(conductor.state, places, instruments, options.to).length === 0;
          if (options.json) console.log(JSON.stringify({ deployment, epochs, moved: took, pauses: made }));
          else console.log(epochs.length === 0 ? `${options.to} decides on them already` : draw(made));
          if (!took) throw new UsageError(`${options.to} did not take over in time: everything went back`);
        } finally {
          await conductor.close();
          await watcher.close();
        }
      });
    });
}

/** The partitions in which a revision runs; it has to run in all that anybody runs in. */
function placesFor(state: LedgerState, revision: string): Place[] {
  const places = [...state.partitions].filter(([, { started }]) => started.size > 0);
  const missing = places.filter(([, { started }]) => !started.has(revision)).map(([id]) => id);
  if (missing.length === places.length)
    throw noSuch("revision", revision, new Set(places.flatMap(([, { started }]) => [...started.keys()])));
  if (missing.length > 0)
    throw new HandoverError("UNKNOWN_REVISION", `${revision} has not begun with ${missing.join(", ")}`);
  return places.map(([id]) => placeOf(id));
}

/** Measures pauses from the ledger's records as they come. */
class Pauses {
  readonly #released = new Map<string, { at: number; cut: string; forced: boolean }>();
  readonly #requests = new Map<number, { instruments: readonly string[]; from: string | null }>();
  readonly list: Pause[] = [];

  see(
    record: Parameters<NonNullable<ConstructorParameters<typeof LedgerFollower>[0]["onRecord"]>>[0],
    at: number,
  ): void {
    if (record.type === "request") this.#requests.set(record.epoch, record);
    if (record.type === "released") {
      const { cut, forced } = record;
      this.#released.set(`${record.epoch} ${placeKey(record)}`, { at, cut, forced });
    }
    if (record.type !== "taken") return;
    const { epoch, revision: to, cut } = record;
    const released = this.#released.get(`${epoch} ${placeKey(record)}`);
    const { instruments = [], from = null } = this.#requests.get(epoch) ?? {};
    const pauseMs = released === undefined ? null : at - released.at;
    const forced = released?.forced ?? false;
    this.list.push({ epoch, partition: placeKey(record), instruments, from, to, pauseMs, cut, forced });
  }
}

function say(event: ConductorEvent): void {
  switch (event.kind) {
    case "requested":
    case "hand-back": {
      const { epoch, instruments, from, to } = event.request;
      const verb = event.kind === "requested" ? "asked for" : "not taken in time; asked back";
      console.error(`request ${epoch}: ${verb}: ${names(instruments)} ${from ?? "nobody"} → ${to}`);
      return;
    }
    case "forced":
      console.error(
        `${event.revision} does not answer on ${placeKey(event.place)}: released for it at ${event.cut}`,
      );
      return;
    case "lost-race":
      console.error(`${event.revision} came back on ${placeKey(event.place)} and answers itself`);
      return;
    case "completed":
      console.error(`request ${event.epoch}: done`);
      return;
    case "waiting":
      return;
  }
}

function names(instruments: readonly string[]): string {
  return instruments.map(instrumentName).join(",");
}

function draw(pauses: readonly Pause[]): string {
  const rows = pauses.map(({ epoch, partition, instruments, from, to, cut, pauseMs, forced }) => [
    String(epoch),
    names(instruments),
    partition,
    `${from ?? "nobody"} → ${to}`,
    cut,
    pauseMs === null ? "-" : `${pauseMs} ms${forced ? " (forced)" : ""}`,
  ]);
  return columns([["EPOCH", "INSTRUMENTS", "PARTITION", "MOVED", "CUT", "PAUSE"], ...rows]);
}
