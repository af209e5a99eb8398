import { REST } from "#runtime/contracts/ledger.ts";
import type { CanaryStep, Instrument, ModelDeploymentSpec } from "../api/model-deployment.ts";

// The steps of a release, and which instruments they give to the candidate.

/** How long each of the default steps lasts. */
const DEFAULT_PAUSE = "1h";

/** The trading desk's own: the most liquid instrument first, then by volume from low to all. */
function defaultSteps(instruments: readonly Instrument[]): readonly CanaryStep[] {
  const has = (tier: Instrument["tier"]) => instruments.some((entry) => entry.tier === tier);
  const pause: CanaryStep = { pause: { duration: DEFAULT_PAUSE } };
  const steps: CanaryStep[] = [];
  if (instruments.some(({ symbol }) => symbol === "BTCUSDT")) {
    steps.push({ setInstruments: { symbols: ["BTCUSDT"] } }, pause);
  }
  for (const tier of ["low", "medium"] as const) {
    if (has(tier)) steps.push({ setInstruments: { tier } }, pause);
  }
  steps.push({ setInstruments: { all: true } }, pause);
  return steps;
}

/** The steps that a spec asks for: a blue/green release is one with a single move. */
export function stepsOf(
  { strategy }: ModelDeploymentSpec,
  instruments: readonly Instrument[],
): readonly CanaryStep[] {
  const { canary, blueGreen } = strategy;
  if (blueGreen === undefined) return canary?.steps ?? defaultSteps(instruments);
  const { prePromotionAnalysis: pre, postPromotionAnalysis: post } = blueGreen;
  const wait: CanaryStep = blueGreen.autoPromotionEnabled
    ? { pause: { duration: `${blueGreen.autoPromotionSeconds}s` } }
    : { pause: {} };
  return [
    ...(pre === undefined ? [] : [{ analysis: pre }]),
    wait,
    { setInstruments: { all: true as const } },
    ...(post === undefined ? [] : [{ analysis: post }]),
  ];
}

/** The instruments that the candidate is to have when a step is done, with all that it had before; sorted. */
export function instrumentsAt(
  steps: readonly CanaryStep[],
  index: number,
  instruments: readonly Instrument[],
): readonly string[] {
  const chosen = new Set<string>();
  for (const step of steps.slice(0, index + 1)) {
    for (const symbol of instrumentsOf(step, instruments)) chosen.add(symbol);
  }
  return [...chosen].toSorted();
}

/** The instruments that a step gives by itself. */
export function instrumentsOf(step: CanaryStep, instruments: readonly Instrument[]): readonly string[] {
  const { setInstruments, setWeight } = step;
  if (setWeight !== undefined) return byShare(instruments, setWeight / 100);
  if (setInstruments === undefined) return [];
  const { symbols, tier, volumeShare } = setInstruments;
  if (symbols !== undefined) return symbols;
  if (tier !== undefined)
    return instruments.filter((entry) => entry.tier === tier).map(({ symbol }) => symbol);
  if (volumeShare !== undefined) return byShare(instruments, Number(volumeShare));
  return [...instruments.map(({ symbol }) => symbol), REST];
}

/** The weight that the latest step up to an index has set; undefined where none has. */
export function weightAt(steps: readonly CanaryStep[], index: number): number | undefined {
  return steps.slice(0, index + 1).findLast(({ setWeight }) => setWeight !== undefined)?.setWeight;
}

/** The share of the volume of each instrument, 0 to 1; alike where no shares are given. */
export function shares(instruments: readonly Instrument[]): ReadonlyMap<string, number> {
  const given = instruments.map(({ volumeShare }) => Number(volumeShare ?? 0));
  const sum = given.reduce((a, b) => a + b, 0);
  const alike = 1 / Math.max(1, instruments.length);
  return new Map(instruments.map(({ symbol }, i) => [symbol, sum > 0 ? (given[i] ?? 0) / sum : alike]));
}

/** As many instruments as make up a share of the volume, least volume first; all of it is everything. */
function byShare(instruments: readonly Instrument[], share: number): readonly string[] {
  const of = shares(instruments);
  const all = instruments.map(({ symbol }) => symbol);
  if (share >= 1) return [...all, REST];
  const order = all.toSorted((a, b) => (of.get(a) ?? 0) - (of.get(b) ?? 0) || (a < b ? -1 : 1));
  const chosen: string[] = [];
  let sum = 0;
  for (const symbol of order) {
    // Not one more than asked for; but one at least.
    const next = sum + (of.get(symbol) ?? 0);
    if (chosen.length > 0 && next > share + 1e-9) break;
    chosen.push(symbol);
    sum = next;
  }
  return chosen;
}

/** Percent of the volume on which a revision decides. */
export function weightOf(
  revision: string,
  owners: ReadonlyMap<string, string | undefined>,
  instruments: readonly Instrument[],
): number {
  const of = shares(instruments);
  let sum = 0;
  for (const { symbol } of instruments) {
    const owner = owners.has(symbol) ? owners.get(symbol) : owners.get(REST);
    if (owner === revision) sum += of.get(symbol) ?? 0;
  }
  return Math.round(sum * 100);
}

/** Whether a revision decides on all of these. */
export function ownsAll(
  revision: string,
  keys: readonly string[],
  owners: ReadonlyMap<string, string | undefined>,
): boolean {
  return keys.every((key) => (owners.has(key) ? owners.get(key) : owners.get(REST)) === revision);
}

/** Whether a revision decides on anything. */
export function ownsAny(revision: string, owners: ReadonlyMap<string, string | undefined>): boolean {
  return [...owners.values()].some((owner) => owner === revision || owner === undefined);
}

/** Whether a revision decides on everything. */
export function ownsEverything(revision: string, owners: ReadonlyMap<string, string | undefined>): boolean {
  return owners.has(REST) && [...owners.values()].every((owner) => owner === revision);
}
