/** What the feature store can fail with; the code is also a metric label. */
export const FEATURE_ERROR_CODES = {
  UNAVAILABLE: "Redis cannot be reached",
  TIMEOUT: "Redis did not answer in time",
  REFUSED: "Redis refused the command",
  BAD_VECTOR: "the values do not fit the feature view",
} as const;

export type FeatureErrorCode = keyof typeof FEATURE_ERROR_CODES;

export class FeatureError extends Error {
  readonly code: FeatureErrorCode;

  constructor(code: FeatureErrorCode, detail: string, options?: ErrorOptions) {
    super(`${FEATURE_ERROR_CODES[code]}: ${detail}`, options);
    this.name = "FeatureError";
    this.code = code;
  }
}
