/** Why a model is not served; the code is also a metric label. */
export const MODEL_ERROR_CODES = {
  BAD_URI: "the model's address is not understood",
  UNREACHABLE: "the model's files cannot be read",
  WRONG_DIGEST: "a file is not the one that was released",
  BAD_MANIFEST: "the model's manifest is not valid",
  BAD_MODEL: "the model cannot be loaded or does not match its manifest",
  GOLDEN_MISMATCH: "the model does not answer its golden inputs as it was released",
  BAD_INPUT: "the input does not fit the model",
  INFERENCE_FAILED: "the model did not answer",
} as const;

export type ModelErrorCode = keyof typeof MODEL_ERROR_CODES;

export class ModelError extends Error {
  readonly code: ModelErrorCode;

  constructor(code: ModelErrorCode, detail: string, options?: ErrorOptions) {
    super(`${MODEL_ERROR_CODES[code]}: ${detail}`, options);
    this.name = "ModelError";
    this.code = code;
  }
}
