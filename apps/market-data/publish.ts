import type { Producer } from "#runtime/bus/port.ts";
import { DecodeError, encode, MarketData, SCHEMA_HEADER } from "#runtime/contracts/index.ts";
import { newTraceparent, TRACE_HEADER } from "#runtime/service/tracing.ts";
import type { OnRejected } from "./errors.ts";
import type { Source } from "./source.ts";

/** Records sent and not yet acknowledged; the source waits beyond. */
const MAX_IN_FLIGHT = 20_000;

export interface PublishOptions {
  readonly source: Source;
  readonly producer: Producer;
  readonly topic: string;
  /** One message of so many is traced; 0 for none. */
  readonly traceEvery: number;
  readonly onMessage: () => void;
  readonly onRejected: OnRejected;
}

/**
 * Sends what the source gives until it ends or the signal is aborted; resolves with how many messages those were, when
 * all are acknowledged. A message that breaks the contract is rejected alone. Rejects with the error of the source, or
 * of a record that was not delivered.
 */
export async function publish(options: PublishOptions, signal: AbortSignal): Promise<number> {
  const { source, producer, topic, traceEvery, onMessage, onRejected } = options;
  const failed = new AbortController();
  let inFlight = 0;
  let count = 0;
  let wake = () => {};
  for await (const message of source(AbortSignal.any([signal, failed.signal]))) {
    const value = encoded(message, onRejected);
    if (value === undefined) continue;
    count += 1;
    onMessage();
    const traced = traceEvery > 0 && count % traceEvery === 0;
    inFlight += 1;
    producer
      .send({
        topic,
        key: message.instrument,
        value,
        headers: {
          [SCHEMA_HEADER]: MarketData.id,
          ...(traced ? { [TRACE_HEADER]: newTraceparent(true) } : {}),
        },
      })
      .catch((error: unknown) => failed.abort(error))
      .finally(() => {
        inFlight -= 1;
        wake();
      });
    if (inFlight < MAX_IN_FLIGHT) continue;
    await new Promise<void>((resolve) => {
      wake = resolve;
    });
  }
  failed.signal.throwIfAborted();
  await producer.flush();
  failed.signal.throwIfAborted();
  return count;
}

function encoded(message: MarketData, onRejected: OnRejected): Buffer | undefined {
  try {
    return encode(MarketData, message);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    onRejected({ code: "INVALID", detail: `${message.instrument}: ${error.message}` });
    return undefined;
  }
}
