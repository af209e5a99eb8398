export interface BackoffOptions {
  /** The bound of the first wait. */
  readonly baseMs: number;
  /** The bound of every wait. */
  readonly maxMs: number;
}

/** A server is not obeyed for longer: what it asks for may be a mistake, and a timer of Node ends at 24.8 days. */
const MAX_ASKED_MS = 600_000;

/**
 * How long to wait after the n-th failure in a row (from 0): anything up to a bound that doubles. Full jitter, as in
 * https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/; never below what the server asked for,
 * which counts up to ten minutes.
 */
export function backoffMs(
  failures: number,
  { baseMs, maxMs }: BackoffOptions,
  random: number,
  askedMs = 0,
): number {
  const bound = Math.min(maxMs, baseMs * 2 ** Math.min(failures, 30));
  // What is no number asks for nothing.
  const asked = askedMs > 0 ? Math.min(askedMs, MAX_ASKED_MS) : 0;
  return Math.max(asked, Math.floor(random * bound));
}
