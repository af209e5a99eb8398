// Asking an address for JSON, and saying in a sentence what came instead.

export interface GetOptions {
  readonly timeoutMs: number;
  /** Ends the request. */
  readonly signal?: AbortSignal;
}

export interface Answer {
  readonly status: number;
  readonly text: string;
}

const MAX_ANSWER_BYTES = 1024 * 1024;
const SHOWN = 200;

/** An address as it may be shown: without user and password, and without its query, which may hold a token. */
export function shownUrl(address: string | URL): string {
  const url = URL.parse(String(address));
  return url === null ? "an address that is none" : `${url.protocol}//${url.host}${url.pathname}`;
}

/** Some of a text that came, on one line. */
export function excerpt(text: string): string {
  return text.replaceAll(/\s+/g, " ").trim().slice(0, SHOWN);
}

/**
 * GET. A user and password in the address are sent as Basic authentication. Rejects with a sentence, in which neither is,
 * when there is no answer in time, more than 1 MiB, or a redirect, which is not followed: it may lead to a page to log in.
 */
export async function get(address: string | URL, { timeoutMs, signal }: GetOptions): Promise<Answer> {
  const url = new URL(address);
  const { username, password } = url;
  const user = [username, password].map(decodeURIComponent).join(":");
  url.username = "";
  url.password = "";
  const late = AbortSignal.timeout(timeoutMs);
  try {
    const response = await fetch(url, {
      redirect: "manual",
      signal: signal === undefined ? late : AbortSignal.any([signal, late]),
      headers: {
        accept: "application/json",
        ...(user === ":" ? {} : { authorization: `Basic ${Buffer.from(user).toString("base64")}` }),
      },
    });
    const location = response.headers.get("location");
    if (response.status >= 300 && response.status < 400) {
      await response.body?.cancel();
      const to = location === null ? "nowhere" : shownUrl(new URL(location, url));
      throw new AnswerError(`HTTP ${response.status}, a redirect to ${to}, which is not followed`);
    }
    return { status: response.status, text: await textOf(response) };
  } catch (error) {
    if (error instanceof AnswerError) throw error;
    if (late.aborted) throw new AnswerError(`no answer in ${timeoutMs / 1000} s`);
    throw new AnswerError(reasonOf(error as Error));
  }
}

/** The JSON of an answer with a status of 200 to 299. Rejects with a sentence otherwise. */
export async function getJson(address: string | URL, options: GetOptions): Promise<unknown> {
  const { status, text } = await get(address, options);
  if (status < 200 || status > 299) throw new AnswerError(`HTTP ${status}: ${excerpt(text)}`);
  return jsonOf(text);
}

export function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new AnswerError(text.trim() === "" ? "an empty answer" : `no JSON: ${excerpt(text)}`);
  }
}

/** What came is not what was asked for; the message says what it was, and may be shown to anybody. */
export class AnswerError extends Error {
  override readonly name = "AnswerError";
}

async function textOf(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let bytes = 0;
  let text = "";
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    // What is left is not read: the connection is closed.
    if (bytes > MAX_ANSWER_BYTES) throw new AnswerError("an answer of more than 1 MiB");
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

/** fetch says no more than that it failed; why is in the cause. */
function reasonOf({ message, cause }: Error): string {
  if (!(cause instanceof Error)) return message;
  const { code } = cause as NodeJS.ErrnoException;
  return `${message}: ${cause.message === "" ? (code ?? cause.name) : cause.message}`;
}
