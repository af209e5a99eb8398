/** What an answer of the API server means for whoever asked. */
export type ApiErrorKind =
  /** Later the same request may succeed: no answer, too many requests, a server in trouble. */
  | "Transient"
  /** The credentials are not accepted (any more): they are read again. */
  | "Unauthorized"
  | "Forbidden"
  | "NotFound"
  | "AlreadyExists"
  /** The object has changed since it was read, or another owner has the field. */
  | "Conflict"
  /** The resource version is too old: list again. */
  | "Gone"
  /** The object is refused as it is. */
  | "Invalid"
  | "Other";

/** A request that failed. `message` is the API server's own sentence. */
export class ApiError extends Error {
  readonly kind: ApiErrorKind;
  /** 0 when there was no answer. */
  readonly status: number;
  /** How long the server asks to wait. */
  readonly retryAfterMs: number | undefined;

  constructor(
    kind: ApiErrorKind,
    status: number,
    message: string,
    options: { readonly retryAfterMs?: number | undefined; readonly cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = "ApiError";
    this.kind = kind;
    this.status = status;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** The kind of an answer with a status of 400 or more; `reason` tells the two meanings of 409 apart. */
export function kindOf(status: number, reason: string | undefined): ApiErrorKind {
  switch (status) {
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "NotFound";
    case 409:
      return reason === "AlreadyExists" ? "AlreadyExists" : "Conflict";
    case 410:
      return "Gone";
    case 400:
    case 413:
    case 422:
      return "Invalid";
    case 429:
      return "Transient";
    default:
      return status >= 500 ? "Transient" : "Other";
  }
}

/** Milliseconds of a Retry-After header, in seconds or as a date; undefined when it says neither. */
export function retryAfter(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined;
  if (/^\s*[0-9]+\s*$/.test(header)) return Number(header) * 1000;
  const at = Date.parse(header);
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
}
