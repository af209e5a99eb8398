import * as z from "zod";
import { ModelError } from "./errors.ts";
import { type Forecasts, type ModelManifest, OUTPUTS } from "./manifest.ts";
import type { Engine } from "./onnx.ts";

const TIMEOUT_MS = 5_000;

const responseSchema = z.object({
  outputs: z.array(
    z.object({ name: z.string(), datatype: z.string(), shape: z.array(z.int()), data: z.array(z.number()) }),
  ),
});

/**
 * A model behind any server of the Open Inference Protocol, version 2 over HTTP (Triton, KServe, MLServer, …):
 * POST <server>/v2/models/<name>/versions/<version>/infer.
 */
export function openInferenceEngine(manifest: ModelManifest, server: string): Engine {
  const { input, outputs, featureView } = manifest;
  const path = `v2/models/${encodeURIComponent(manifest.name)}/versions/${encodeURIComponent(manifest.version)}/infer`;
  const url = `${server.replace(/\/$/, "")}/${path}`;
  const width = featureView.features.length;
  return {
    async run(rows, count) {
      const request = {
        inputs: [{ name: input, datatype: "FP32", shape: [count, width], data: Array.from(rows) }],
        outputs: Object.values(outputs).map((name) => ({ name })),
      };
      const response = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(request),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const text = await response.text();
      if (!response.ok)
        throw new ModelError("INFERENCE_FAILED", `${url}: HTTP ${response.status} ${text.slice(0, 200)}`);
      return answers(text, count);
    },
    close: async () => {},
  };

  function answers(text: string, count: number): Forecasts {
    const parsed = responseSchema.parse(JSON.parse(text));
    const byName = new Map(parsed.outputs.map((output) => [output.name, output.data]));
    const entries = OUTPUTS.map((name) => {
      const data = byName.get(outputs[name]);
      if (data === undefined || data.length !== count) {
        throw new ModelError(
          "INFERENCE_FAILED",
          `${url}: output ${outputs[name]} is missing or not of ${count} values`,
        );
      }
      return [name, Float32Array.from(data)] as const;
    });
    return Object.fromEntries(entries) as unknown as Forecasts;
  }
}
