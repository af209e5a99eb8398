/** What can go wrong with clusters and images on this machine; the code is stable, the message says what to do. */
export type LocalErrorCode =
  | "TOOL_MISSING"
  | "BUILD_FAILED"
  | "PORT_TAKEN"
  | "PATH_NOT_WRITABLE"
  | "PATH_NOT_READABLE"
  | "NOT_RUNNING"
  | "ALREADY_RUNNING"
  | "NOT_READY"
  | "INTERRUPTED"
  | "BAD_STATE"
  | "UNKNOWN_LOG"
  | "UNKNOWN_IMAGE"
  | "NO_ENGINE"
  | "DOCKER_FAILED"
  | "KUBECTL_FAILED"
  | "MANIFEST_REJECTED";

export class LocalError extends Error {
  readonly code: LocalErrorCode;

  constructor(code: LocalErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "LocalError";
    this.code = code;
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The operating system's error code (ENOENT, EADDRINUSE, …) of anything that was thrown. */
export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}
