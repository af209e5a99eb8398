import type { Registry } from "prom-client";
import { ModelError } from "./errors.ts";
import { fetchBytes, sibling } from "./fetch.ts";
import {
  checkGolden,
  digestOf,
  type Forecasts,
  goldenRows,
  type ModelManifest,
  parseManifest,
} from "./manifest.ts";
import { modelMetrics } from "./metrics.ts";
import { type Engine, onnxEngine } from "./onnx.ts";
import { openInferenceEngine } from "./open-inference.ts";

export { MODEL_ERROR_CODES, ModelError, type ModelErrorCode } from "./errors.ts";
export { digestOf, type Forecasts, type ModelManifest } from "./manifest.ts";

export interface ModelOptions {
  /** Address of the model's manifest, `model.json`. */
  readonly uri: string;
  /** Digest of the manifest, `sha256:…`. Anything else is refused. */
  readonly digest: string;
  /** Address of an Open Inference Protocol server that runs the model; without one it runs in this process. */
  readonly server?: string;
  readonly registry: Registry;
}

const WARM_UP_RUNS = 20;

/** A loaded, verified and warm model. */
export interface Model {
  readonly manifest: ModelManifest;
  readonly digest: string;
  /**
   * Forecasts for `count` rows of features, laid out row after row. Throws ModelError BAD_INPUT when the length
   * is wrong and INFERENCE_FAILED when the model fails.
   */
  infer(rows: Float32Array, count: number): Promise<Forecasts>;
  /** Answers the golden inputs again; for readiness checks. Throws GOLDEN_MISMATCH. */
  verify(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Loads a model, refuses it unless every digest is the released one, checks its golden answers and warms it up.
 * Throws ModelError.
 */
export async function loadModel(options: ModelOptions): Promise<Model> {
  const metrics = modelMetrics(options.registry);
  const manifestBytes = await fetchBytes(options.uri);
  checkDigest(options.uri, manifestBytes, options.digest);
  const manifest = parseManifest(manifestBytes);
  const engine = await openEngine(manifest, options);
  const golden = goldenRows(manifest);
  const rows = manifest.golden.inputs.length;
  const width = manifest.featureView.features.length;

  const model: Model = {
    manifest,
    digest: options.digest,
    async infer(input, count) {
      if (input.length !== count * width) {
        throw new ModelError("BAD_INPUT", `${input.length} values for ${count} rows of ${width}`);
      }
      const end = metrics.seconds.startTimer();
      try {
        return await engine.run(input, count);
      } catch (error) {
        const wrapped = wrap(error);
        metrics.errors.inc({ code: wrapped.code });
        throw wrapped;
      } finally {
        end();
        metrics.batch.observe(count);
      }
    },
    async verify() {
      checkGolden(manifest, await model.infer(golden, rows));
    },
    close: () => engine.close(),
  };
  try {
    await model.verify();
    for (let run = 1; run < WARM_UP_RUNS; run++) await engine.run(golden, rows);
  } catch (error) {
    await engine.close();
    throw wrap(error);
  }
  return model;
}

async function openEngine(manifest: ModelManifest, options: ModelOptions): Promise<Engine> {
  if (options.server !== undefined) return openInferenceEngine(manifest, options.server);
  const uri = sibling(options.uri, manifest.file);
  const bytes = await fetchBytes(uri);
  checkDigest(uri, bytes, manifest.fileDigest);
  return onnxEngine(manifest, bytes);
}

function checkDigest(uri: string, bytes: Uint8Array, expected: string): void {
  const actual = digestOf(bytes);
  if (actual !== expected)
    throw new ModelError("WRONG_DIGEST", `${uri} is ${actual}, released was ${expected}`);
}

function wrap(error: unknown): ModelError {
  if (error instanceof ModelError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new ModelError("INFERENCE_FAILED", message, { cause: error });
}
