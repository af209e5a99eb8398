export interface BackoffOptions {
  /** The bound of the first wait. */
  readonly baseMs: number;
  /** The bound of every wait. */
  readonly maxMs: number;
}

/**
 * How long to wait after the n-th failure in a row (from 0): anything up to a bound that doubles. Full jitter, as in
 * https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/; never below what the server asked for.
 */
export function backoffMs(
  failures: number,
  { baseMs, maxMs }: BackoffOptions,
  random: number,
  askedMs = 0,
): number {
  const bound = Math.min(maxMs, baseMs * 2 ** Math.min(failures, 30));
  return Math.max(askedMs, Math.floor(random * bound));
}
