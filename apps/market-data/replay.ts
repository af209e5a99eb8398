import { stat } from "node:fs/promises";
import type { MarketData } from "#runtime/contracts/index.ts";
import { sleepUntil } from "#runtime/time/sleep.ts";
import { csvRows, type Row } from "./csv.ts";
import { type OnRejected, type Rejection, SourceError } from "./errors.ts";
import { isParquet, parquetRows } from "./parquet.ts";
import { Admission, type Admitted, type Source } from "./source.ts";
import { TimeColumn, type TimeUnit } from "./time-unit.ts";

export interface ReplayOptions {
  /** Unit of times that are numbers; without it the file's own types say it, or its first row where only one can be. */
  readonly timeUnit?: TimeUnit | undefined;
  /** Told of each row that is not published. Without it, the first such row ends the replay. */
  readonly onRejected?: OnRejected;
  /** Told of the unit that was derived from the first row. */
  readonly onTimeUnit?: (column: string, unit: string) => void;
  /** Told before a wait of a minute or more, which may be a gap in the data or one wrong time. */
  readonly onGap?: (row: number, waitMs: number) => void;
}

const LONG_WAIT_MS = 60_000;

const COMMON = ["type", "instrument", "assetClass", "eventTime", "sequence"];
const BY_TYPE: Readonly<Record<MarketData["type"], readonly string[]>> = {
  trade: ["price", "size"],
  bookTop: ["bidPrice", "bidSize", "askPrice", "askSize"],
  candle: ["openTime", "closeTime", "open", "high", "low", "close", "volume", "trades"],
};
const TEXT = new Set(["type", "instrument", "assetClass", "side"]);
const TIMES = ["eventTime", "openTime", "closeTime"];
const KNOWN = new Set([...COMMON, ...Object.values(BY_TYPE).flat(), "side"]);

/**
 * Messages of a CSV or Parquet file whose columns are the fields of a message, `speed` times as fast as they happened.
 * Event times are kept. Throws SourceError for a file that cannot be read, naming file, row group or row.
 */
export function replayed(file: string, speed: number, options: ReplayOptions = {}): Source {
  const { onRejected, onGap } = options;
  return async function* (signal) {
    const reader = new RowReader(file, options);
    const counts = { published: 0, rejected: 0 };
    let refused: string | undefined;
    let first: { readonly event: number; readonly at: number } | undefined;
    for await (const row of rows(file)) {
      if (signal.aborted) return;
      const admitted = reader.read(row);
      if ("rejection" in admitted) {
        const detail = `${file}, row ${row.row}: ${admitted.rejection.detail}`;
        if (onRejected === undefined) throw new SourceError("BAD_FILE", detail);
        onRejected({ ...admitted.rejection, detail });
        refused ??= detail;
        counts.rejected += 1;
        continue;
      }
      const { message } = admitted;
      first ??= { event: message.eventTime, at: performance.now() };
      if (speed !== 0) {
        const due = first.at + (message.eventTime - first.event) / speed;
        const waitMs = due - performance.now();
        if (waitMs >= LONG_WAIT_MS) onGap?.(row.row, waitMs);
        await sleepUntil(due, { signal });
      }
      if (signal.aborted) return;
      counts.published += 1;
      yield message;
    }
    if (counts.published > 0) return;
    const why = counts.rejected === 0 ? "there is no row" : `no row is a message; the first: ${refused}`;
    throw new SourceError("BAD_FILE", `${file}: ${why}`);
  };
}

async function* rows(file: string): AsyncIterable<Row> {
  const check = (columns: readonly string[]) => checkColumns(file, columns);
  const found = await stat(file).catch((cause: Error) => {
    throw new SourceError("BAD_FILE", `REPLAY_FILE: ${cause.message}`, { cause });
  });
  if (found.isDirectory()) throw new SourceError("BAD_FILE", `REPLAY_FILE: ${file} is a folder`);
  yield* (await isParquet(file)) ? parquetRows(file, KNOWN, check) : csvRows(file, check);
}

function checkColumns(file: string, columns: readonly string[]): void {
  const twice = columns.find((name, i) => KNOWN.has(name) && columns.indexOf(name) !== i);
  if (twice !== undefined) throw new SourceError("BAD_FILE", `${file}: the column ${twice} is there twice`);
  const absent = (names: readonly string[]) => names.filter((name) => !columns.includes(name));
  const missing = absent(COMMON);
  const complete = Object.values(BY_TYPE).some((names) => absent(names).length === 0);
  // What is nearest to complete says best what is missing.
  const [nearest = []] = complete
    ? [[]]
    : Object.values(BY_TYPE)
        .map(absent)
        .sort((one, other) => one.length - other.length);
  const all = [...missing, ...nearest];
  if (all.length > 0) throw new SourceError("BAD_FILE", `${file}: no column ${all.join(", ")}`);
}

/** Makes messages of rows, by the units of this file's times. */
class RowReader {
  readonly #file: string;
  readonly #times: ReadonlyMap<string, TimeColumn>;
  readonly #admission = new Admission();

  constructor(file: string, { timeUnit, onTimeUnit }: ReplayOptions) {
    this.#file = file;
    this.#times = new Map(
      TIMES.map((name) => [name, new TimeColumn(name, timeUnit, (unit) => onTimeUnit?.(name, unit))]),
    );
  }

  read({ row, columns, problem }: Row): Admitted {
    if (problem !== undefined) return { rejection: { code: "MALFORMED", detail: problem } };
    try {
      const fields: Record<string, unknown> = {};
      for (const [name, value] of Object.entries(columns)) {
        if (value === "" || value === null || value === undefined || !KNOWN.has(name)) continue;
        const time = this.#times.get(name);
        if (time !== undefined) {
          const ms = time.read(value);
          if (ms === undefined) return { rejection: implausible(name, value) };
          fields[name] = ms;
        } else fields[name] = TEXT.has(name) ? String(value) : Number(value);
      }
      return this.#admission.admit(fields);
    } catch (error) {
      if (!(error instanceof SourceError)) throw error;
      throw new SourceError(error.code, `${this.#file}, row ${row}: ${error.message}`);
    }
  }
}

function implausible(name: string, value: unknown): Rejection {
  return { code: "IMPLAUSIBLE_TIMESTAMP", detail: `${name}: ${String(value).slice(0, 50)}` };
}
