/** Everything that handing over can fail with. */
export const HANDOVER_ERROR_CODES = {
  BAD_LEDGER: "the ledger holds a record that cannot be read",
  LEDGER_LOST: "the ledger that was followed is not there any more",
  NO_LEDGER: "the deployment has no ledger",
  UNDECIDED: "a transaction stays open, which keeps what was written after it from being read",
  SHADOW_GONE: "the revision's own shadow records are not kept as far back as the cut",
  REFUSED: "the request cannot be made now",
  UNKNOWN_REVISION: "no worker of the revision has begun with every partition",
  DEPOSED: "another conductor took over",
  TIMED_OUT: "the hand-over did not end in time",
  CLOSED: "used after close",
} as const;

export type HandoverErrorCode = keyof typeof HANDOVER_ERROR_CODES;

export class HandoverError extends Error {
  readonly code: HandoverErrorCode;

  constructor(code: HandoverErrorCode, detail: string, options?: ErrorOptions) {
    super(`${HANDOVER_ERROR_CODES[code]}: ${detail}`, options);
    this.name = "HandoverError";
    this.code = code;
  }
}
