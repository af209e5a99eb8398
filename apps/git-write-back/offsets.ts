import type { Bus } from "#runtime/bus/port.ts";
import { LedgerFollower } from "#runtime/handover/ledger.ts";

const READ_MS = 10_000;

/** From which offsets on a revision decides, the latest of each partition: `topic/partition@offset`. */
export async function handOverOffsets(bus: Bus, deployment: string, revision: string): Promise<string[]> {
  let failed: Error | undefined;
  const follower = new LedgerFollower({
    bus,
    deployment,
    onFatal: (error) => {
      failed = error;
    },
  });
  await follower.start();
  try {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(failed ?? new Error("the ledger was not read in time")), READ_MS);
    });
    await Promise.race([follower.untilEnd(), late]).finally(() => clearTimeout(timer));
    return [...follower.state.partitions].toSorted().flatMap(([place, { holdings }]) => {
      const own = [...holdings.values()].filter((holding) => holding.revision === revision);
      const [latest] = own.map(({ from }) => from).toSorted((a, b) => (a > b ? -1 : 1));
      return latest === undefined ? [] : [`${place}@${latest}`];
    });
  } finally {
    await follower.close();
  }
}
