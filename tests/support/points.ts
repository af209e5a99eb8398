// Many runs of something, each at another point, some at a time.

/** What a seeded generator yields: numbers from 0 to 1 (mulberry32, public domain). */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Some of them, spread by chance; all where there are no more. */
export function some<T>(all: readonly T[], count: number, random: () => number): readonly T[] {
  return all
    .map((one) => ({ one, at: random() }))
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
