// First: the library reads its switches when it is loaded.
import "./no-telemetry.ts";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { ModelError } from "./errors.ts";
import type { Forecasts, ModelManifest } from "./manifest.ts";

/** Computes forecasts; the shape of the input was checked by the caller. */
export interface Engine {
  run(rows: Float32Array, count: number): Promise<Forecasts>;
  close(): Promise<void>;
}

/** ONNX in this process, on one thread: a worker has its own core, and small batches gain nothing from more. */
export async function onnxEngine(manifest: ModelManifest, bytes: Uint8Array): Promise<Engine> {
  const { input, outputs, featureView } = manifest;
  let session: InferenceSession;
  try {
    session = await InferenceSession.create(bytes, {
      intraOpNumThreads: 1,
      interOpNumThreads: 1,
      graphOptimizationLevel: "all",
      logSeverityLevel: 3,
    });
  } catch (cause) {
    throw new ModelError("BAD_MODEL", cause instanceof Error ? cause.message : String(cause), { cause });
  }
  const missing = [
    ...(session.inputNames.includes(input) ? [] : [`input ${input}`]),
    ...Object.values(outputs).flatMap((name) =>
      session.outputNames.includes(name) ? [] : [`output ${name}`],
    ),
  ];
  if (missing.length > 0) {
    await session.release();
    throw new ModelError("BAD_MODEL", `the file has no ${missing.join(", ")}`);
  }
  const width = featureView.features.length;
  return {
    async run(rows, count) {
      const results = await session.run({ [input]: new Tensor("float32", rows, [count, width]) });
      const values = (name: string): Float32Array => {
        const data = results[name]?.data;
        if (!(data instanceof Float32Array) || data.length !== count) {
          throw new ModelError("BAD_MODEL", `output ${name} is not float32 [${count}]`);
        }
        return data;
      };
      return { mu: values(outputs.mu), sigma: values(outputs.sigma), confidence: values(outputs.confidence) };
    },
    close: () => session.release(),
  };
}
