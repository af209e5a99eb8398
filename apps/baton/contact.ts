import { ApiError } from "#operators/controller-kit/errors.ts";
import { errnoOf, messageOf, UsageError } from "./common.ts";
import type { Contact } from "./kubeconfig.ts";
import { shown } from "./names.ts";

// What goes wrong between the command line and the API server, in sentences that say what to do.

const UNTRUSTED = new Set([
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "CERT_SIGNATURE_FAILURE",
]);

/** An error of the API server or of the way to it, as a person is to read it; others as they are. */
export function explained(error: unknown, contact: Pick<Contact, "source" | "context" | "server">): unknown {
  const told = sentence(error, contact);
  return told === undefined ? error : new UsageError(told, { cause: error });
}

function sentence(
  error: unknown,
  { source, context, server }: Pick<Contact, "source" | "context" | "server">,
): string | undefined {
  if (error instanceof UsageError) return undefined;
  if (!(error instanceof ApiError)) return credentials(error, source);
  const { kind, status, message } = error;
  if (status === 0) return unreachable(error, server, source);
  if (status < 400)
    return `what answers at ${server} (HTTP ${status}) is no API server: check the cluster's address in ${source}`;
  switch (kind) {
    case "Unauthorized":
      return `the API server ${server} does not accept the credentials of the context ${context}: they have expired, or are of another cluster; get its kubeconfig anew`;
    case "Forbidden":
      return `not allowed: ${message}; ask who runs the cluster for that right`;
    case "NotFound":
      return isObject(message)
        ? `not found: ${message}`
        : `Baton is not installed in the cluster of the context ${context}: it has no ModelDeployments (kubectl get crd modeldeployments.baton.dev)`;
    case "Transient":
      return `the API server ${server} is in trouble (HTTP ${status}): ${message}; try again`;
    case "Conflict":
      return `changed by somebody else at the same time: ${message}; try again`;
    default:
      return `the API server refuses it (HTTP ${status}): ${message}`;
  }
}

/** Whether a 404 is about an object: about a resource that it does not know the API server speaks in general. */
function isObject(message: string): boolean {
  return /"[^"]*" not found$/.test(message);
}

function unreachable(error: ApiError, server: string, source: string): string {
  const code = errnoOf(error.cause) ?? "";
  const { host, hostname } = new URL(server);
  if (UNTRUSTED.has(code))
    return `the certificate of ${server} is signed by an authority that ${source} does not name: get the cluster's kubeconfig anew, or check where it leads`;
  switch (code) {
    case "CERT_HAS_EXPIRED":
      return `the certificate of ${server} has expired: the cluster's certificates have to be renewed`;
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return `the certificate of ${server} is for other names than ${hostname}: use the address that it is made for`;
    case "ECONNREFUSED":
      return `nothing listens at ${host}: is the cluster running? (npm run cluster -- up starts the local one)`;
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `the name ${hostname} is not known here: check the cluster's address in ${source}`;
    case "EPROTO":
    case "ERR_SSL_WRONG_VERSION_NUMBER":
    case "ERR_SSL_PACKET_LENGTH_TOO_LONG":
      return `what listens at ${host} does not speak TLS, or refuses ours: check the cluster's address in ${source}`;
    default:
      return `the API server ${server} does not answer: ${error.message}`;
  }
}

/** Certificates, tokens and programs that a kubeconfig names are read when they are needed. */
function credentials(error: unknown, source: string): string | undefined {
  const { path, syscall } = error as { readonly path?: unknown; readonly syscall?: unknown };
  const code = errnoOf(error);
  if (typeof path === "string" && typeof syscall === "string" && code !== undefined) {
    if (syscall.startsWith("spawn"))
      return `${source} gets its credentials from the program ${shown(path)}, which is not on the PATH`;
    return `${source} names ${path}, which cannot be read (${code})`;
  }
  const text = messageOf(error);
  return /PEM|certificate|private key|unsupported/i.test(text)
    ? `${source} has a certificate or key that cannot be used: ${text}`
    : undefined;
}
