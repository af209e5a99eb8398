import { createHash } from "node:crypto";
import * as z from "zod";
import { ModelError } from "./errors.ts";

const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/);

/** What a model's manifest (`model.json`) says; its own digest covers every file through the digests in it. */
export const manifestSchema = z.strictObject({
  name: z.string().min(1).describe("Name of the model"),
  version: z.string().min(1).describe("Version of the model"),
  format: z.literal("onnx").describe("Format of the model file"),
  file: z
    .string()
    .regex(/^[A-Za-z0-9._-]+$/)
    .describe("Name of the model file, beside the manifest"),
  fileDigest: digest.describe("Digest of the model file"),
  featureView: z
    .strictObject({
      name: z.string().min(1),
      version: z.int().positive(),
      features: z.array(z.string().min(1)).min(1).max(4096),
    })
    .describe("Feature view that the model was fitted on; order is the order of the input's columns"),
  input: z.string().min(1).describe("Name of the input tensor, float32 [batch, features]"),
  outputs: z
    .strictObject({ mu: z.string(), sigma: z.string(), confidence: z.string() })
    .describe("Names of the output tensors, each float32 [batch]"),
  horizonMs: z.int().positive().describe("Length of time of the forecast, milliseconds"),
  golden: z
    .strictObject({
      inputs: z.array(z.array(z.number())).min(1).max(1000),
      outputs: z.strictObject({
        mu: z.array(z.number()),
        sigma: z.array(z.number()),
        confidence: z.array(z.number()),
      }),
      tolerance: z.number().positive().describe("Largest allowed |difference|, relative to 1 + |value|"),
    })
    .describe("Inputs and the answers that were released with the model"),
});

export type ModelManifest = z.infer<typeof manifestSchema>;

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** Parses a manifest and checks what its schema cannot say. Throws ModelError BAD_MANIFEST. */
export function parseManifest(bytes: Uint8Array): ModelManifest {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch (cause) {
    throw new ModelError("BAD_MANIFEST", "not JSON", { cause });
  }
  const parsed = manifestSchema.safeParse(json);
  if (!parsed.success) {
    const problems = parsed.error.issues
      .slice(0, 5)
      .map((issue) => `${issue.path.join(".")}: ${issue.message}`);
    throw new ModelError("BAD_MANIFEST", problems.join("; "));
  }
  const { featureView, golden } = parsed.data;
  const width = featureView.features.length;
  if (golden.inputs.some((row) => row.length !== width)) {
    throw new ModelError("BAD_MANIFEST", `golden.inputs: every row must have ${width} values`);
  }
  for (const [name, values] of Object.entries(golden.outputs)) {
    if (values.length !== golden.inputs.length) {
      throw new ModelError(
        "BAD_MANIFEST",
        `golden.outputs.${name}: ${golden.inputs.length} values are needed`,
      );
    }
  }
  return parsed.data;
}

/** The model's answers for a batch; each array has one value a row. */
export interface Forecasts {
  readonly mu: Float32Array;
  readonly sigma: Float32Array;
  readonly confidence: Float32Array;
}

export const OUTPUTS = ["mu", "sigma", "confidence"] as const;

/** Throws ModelError GOLDEN_MISMATCH naming the first answer that differs from what was released. */
export function checkGolden(manifest: ModelManifest, answers: Forecasts): void {
  const { outputs, tolerance } = manifest.golden;
  for (const name of OUTPUTS) {
    for (const [row, expected] of outputs[name].entries()) {
      const actual = answers[name][row] ?? Number.NaN;
      if (!(Math.abs(actual - expected) <= tolerance * (1 + Math.abs(expected)))) {
        throw new ModelError(
          "GOLDEN_MISMATCH",
          `row ${row}, ${name}: ${actual} where ${expected} was released`,
        );
      }
    }
  }
}

export function goldenRows(manifest: ModelManifest): Float32Array {
  return Float32Array.from(manifest.golden.inputs.flat());
}
