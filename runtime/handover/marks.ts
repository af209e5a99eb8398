import type { Redis } from "#runtime/redis/index.ts";
import type { Marks } from "./once.ts";

/** Marks in this process, for tests. */
export function memoryMarks(): Marks {
  const marks = new Map<string, bigint>();
  return {
    get: async (key) => marks.get(key),
    raise: async (key, offset) => {
      if (offset > (marks.get(key) ?? -1n)) marks.set(key, offset);
    },
  };
}

// Offsets exceed what Lua's numbers hold exactly: compared as text, by length and then by digits.
const RAISE = `
local old = redis.call('GET', KEYS[1])
if old and (#old > #ARGV[1] or (#old == #ARGV[1] and old >= ARGV[1])) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
`;

/** Marks in Redis, under `baton:once:`. As durable as that Redis is: with what is lost there, decisions repeat. */
export function redisMarks(redis: Redis): Marks {
  const name = (key: string) => `baton:once:${key}`;
  return {
    async get(key) {
      const text = await redis.get(name(key));
      return text === null ? undefined : BigInt(text);
    },
    async raise(key, offset) {
      await redis.eval(RAISE, 1, name(key), String(offset));
    },
  };
}
