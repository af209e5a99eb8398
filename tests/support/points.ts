import type { Random } from "#runtime/market/random.ts";

// Many runs of something, each at another point, some at a time.

/** Some of them, spread by chance; all where there are no more. */
export function some<T>(all: readonly T[], count: number, random: Random): readonly T[] {
  return all
    .map((one) => ({ one, at: random.uniform() }))
    .toSorted((a, b) => a.at - b.at)
    .slice(0, count)
    .map(({ one }) => one);
}

/** Does something with each, `atOnce` at a time. */
export async function each<T>(
  all: readonly T[],
  atOnce: number,
  work: (one: T, done: number) => Promise<void>,
): Promise<void> {
  const left = [...all];
  let done = 0;
  const one = async () => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) await work(next, ++done);
  };
  await Promise.all(Array.from({ length: atOnce }, one));
}
