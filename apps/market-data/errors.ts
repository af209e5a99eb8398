/** Why a source cannot go on; a person has to change something. */
export const SOURCE_ERROR_CODES = {
  BAD_FILE: "the file to replay cannot be read as what it should be",
  UNKNOWN_TIME_UNIT: "nothing says in which unit the file's times are, or they are in several",
  MISSING_PACKAGE: "live trades need a package that is not installed",
  UNKNOWN_EXCHANGE: "ccxt has no such exchange, or no live trades of it",
  BAD_SYMBOL: "a symbol is none of the exchange's, or two symbols have one instrument name",
  ACCESS_DENIED: "the exchange refuses us, whatever we try",
} as const;

export type SourceErrorCode = keyof typeof SOURCE_ERROR_CODES;

export class SourceError extends Error {
  readonly code: SourceErrorCode;

  constructor(code: SourceErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "SourceError";
    this.code = code;
  }
}

/** Why one record of a source is not published. The others go on; also the metric label `code`. */
export const REJECTION_CODES = {
  INVALID: "a field is missing or out of its range",
  IMPLAUSIBLE_TIMESTAMP: "the time is not between the years 2000 and 2100",
  FUTURE_TIMESTAMP: "a live trade is more than a minute ahead of our clock",
  DUPLICATE: "it has been published already",
  OUT_OF_ORDER: "it comes after newer records of its instrument",
  MALFORMED: "the row has more or fewer fields than the header",
} as const;

export type RejectionCode = keyof typeof REJECTION_CODES;

/** A record that is not published. */
export interface Rejection {
  readonly code: RejectionCode;
  /** Where it is from and what is wrong with it. */
  readonly detail: string;
}

export type OnRejected = (rejection: Rejection) => void;
