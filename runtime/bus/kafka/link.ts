import net, { type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Kafka, RetryOptions } from "kafkajs";
import { BusError } from "../errors.ts";
import { kafkajs } from "./library.ts";

export interface KafkaConfig {
  /** `host:port` of some brokers. */
  readonly brokers: readonly string[];
  /** Shown in the brokers' logs. */
  readonly clientId: string;
}

/** A producer's requests are repeated until they get through: giving up would leave their fate unknown. */
const RETRY_FOR_EVER: RetryOptions = {
  initialRetryTime: 5,
  factor: 0.2,
  multiplier: 2,
  maxRetryTime: 1_000,
  retries: Number.MAX_SAFE_INTEGER,
};

/** Requests that somebody waits for fail after about ten seconds. */
export const RETRY_BRIEFLY: RetryOptions = { initialRetryTime: 50, maxRetryTime: 1_000, retries: 12 };

/** What a client may take to end without a sign of life. */
const END_MS = 5_000;
/** What is cut falls silent after this at the latest. */
const CUT_MS = 2_000;

/**
 * The connections of one client. The library's clients end in an orderly way only, which takes a broker that answers:
 * without one they try for ever. These can be cut.
 */
export class Link {
  readonly kafka: Kafka;
  readonly #sockets = new Set<Socket>();
  readonly #cut = new AbortController();

  constructor(config: KafkaConfig, retry: RetryOptions = RETRY_FOR_EVER) {
    this.kafka = new kafkajs.Kafka({
      brokers: [...config.brokers],
      clientId: config.clientId,
      connectionTimeout: 3_000,
      requestTimeout: 15_000,
      enforceRequestTimeout: true,
      retry: { ...retry, signal: this.#cut.signal } as RetryOptions,
      socketFactory: ({ host, port, onConnect }) => this.#connect(host, port, onConnect),
      // Its own lines repeat what our errors and metrics say.
      logLevel: kafkajs.logLevel.NOTHING,
    });
  }

  #connect(host: string, port: number, onConnect: () => void): Socket {
    const socket = net.connect({ host, port }, onConnect).setKeepAlive(true, 60_000);
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    return socket;
  }

  /** Ends everything that is on its way with CLOSED. */
  cut(): void {
    this.#cut.abort(new BusError("CLOSED", "no broker has answered"));
    for (const socket of this.#sockets) socket.destroy(new Error("closed"));
  }

  /** Resolves with what is being opened; a signal that is given before that cuts the link. */
  async opening<T>(open: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const cut = () => this.cut();
    try {
      if (signal?.aborted === true) throw new BusError("CLOSED", "before it was opened");
      signal?.addEventListener("abort", cut);
      return await open();
    } catch (error) {
      this.cut();
      throw error;
    } finally {
      signal?.removeEventListener("abort", cut);
    }
  }

  /** Waits for an orderly end for as long as what is `left` becomes less, and a little; then there is an end all the same. */
  async end(orderly: Promise<unknown>, left: () => number = () => 0): Promise<void> {
    const ended = orderly.then(
      () => true,
      () => true,
    );
    for (let before = Number.POSITIVE_INFINITY; left() < before; ) {
      before = left();
      if (await Promise.race([ended, sleep(END_MS, false, { ref: false })])) break;
    }
    this.cut();
    await Promise.race([ended, sleep(CUT_MS, undefined, { ref: false })]);
  }
}
