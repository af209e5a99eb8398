import { createHash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "#clusters/local/ports.ts";
import type { InRecord } from "#runtime/bus/port.ts";
import { decode, type MarketData, Signal } from "#runtime/contracts/index.ts";
import { Subject } from "./processes.ts";

const root = join(import.meta.dirname, "..", "..");
export const MODEL_URI = `file://${join(root, "apps/signal-model/models/momentum/1.0.0/model.json")}`;
export const MODEL_DIGEST = `sha256:${createHash("sha256")
  .update(readFileSync(new URL(MODEL_URI)))
  .digest("hex")}`;

/** An example model as a ModelDeployment's spec names it. */
export function exampleModel(version: string) {
  const file = `apps/signal-model/models/momentum/${version}/model.json`;
  const digest = createHash("sha256")
    .update(readFileSync(join(root, file)))
    .digest("hex");
  return { name: "momentum", version, uri: `file:${file}`, digest: `sha256:${digest}` };
}

export interface SignalModelProcess {
  readonly process: Subject;
  readonly deployment: string;
  readonly url: string;
}

/** A signal-model as a child process, not yet started. */
export async function signalModel(
  env: { readonly KAFKA_BROKERS: string; readonly REDIS_URL: string; readonly TOPICS: string } & Record<
    string,
    string
  >,
): Promise<SignalModelProcess> {
  const port = await freePort();
  const deployment = env["DEPLOYMENT"] ?? `d-${randomUUID().slice(0, 8)}`;
  const process_ = new Subject(process.execPath, [join(root, "apps/signal-model/main.ts")], {
    HTTP_HOST: "127.0.0.1",
    HTTP_PORT: String(port),
    DEPLOYMENT: deployment,
    REVISION: "r1",
    MODEL_URI,
    MODEL_DIGEST,
    START: "earliest",
    ...env,
  });
  return { process: process_, deployment, url: `http://127.0.0.1:${port}` };
}

/** A valid market-data message. */
export function trade(
  sequence: number,
  extra: Partial<Record<keyof MarketData | "price", unknown>> = {},
): object {
  return {
    type: "trade",
    instrument: "BTCUSDT",
    assetClass: "crypto",
    eventTime: Date.now(),
    sequence,
    price: 64_000 + sequence,
    size: 0.1,
    side: "buy",
    ...extra,
  };
}

export const readSignal = (record: InRecord): Signal =>
  decode(Signal, record.value, record.headers["baton-schema"]);
