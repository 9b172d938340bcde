/**
 * Requests to a gateway.
 *
 * Promise: a request that changes something takes effect once, however often it is repeated. All its repeats carry one
 * request ID, and none is sent after the deadline.
 */

import { ApiError, errorOf, Unreachable } from "./errors.js";
import { Patience, sleep } from "./patience.js";

/** Options of every call. */
export interface CallOptions {
  /** Ends the call, which rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Milliseconds until the call fails, repeats included. */
  deadline?: number | undefined;
  /** The ID under which repeats take effect once, for 24 hours; by default a new one for each call. */
  requestId?: string | undefined;
  /** The version that must be the present one; otherwise the call fails with `precondition-failed`. */
  ifMatch?: number | undefined;
}

/** The parts of a request besides its method and path. */
export interface RequestParts extends CallOptions {
  /** A value that is sent as JSON. */
  body?: unknown;
  /** The query; undefined values are left out, and lists are joined by commas. */
  params?: object | undefined;
  headers?: Record<string, string>;
  /** Send no credential. */
  anonymous?: boolean;
}

/** The credential that requests carry. */
export interface Credentials {
  /** Return the headers that carry it in a request with this method. */
  headers(method: string): Promise<Record<string, string>>;
  /** Replace the credential in these headers, which was refused. Return false if there is no other. */
  renew(refused: Record<string, string>): Promise<boolean>;
  /** Whether the browser adds its cookies. */
  readonly cookies: boolean;
}

const SAFE = new Set(["GET", "HEAD"]);
// Milliseconds: of one attempt, for the way of an answer that says what was wrong, and between attempts.
const ATTEMPT = 10_000;
const ON_THE_WAY = 500;
const FIRST_PAUSE = 100;
const LONGEST_PAUSE = 2_000;

export class HttpApi {
  /** `url` has no slash at its end, and `deadline` is in milliseconds. */
  constructor(
    readonly url: string,
    private readonly credentials: Credentials,
    private readonly deadline: number,
    private readonly fetch: typeof globalThis.fetch,
  ) {}

  /**
   * Return the decoded answer; undefined if it is empty.
   *
   * Retryable failures are repeated within the deadline, under one request ID. Throws `ApiError`, `Unreachable` or the
   * signal's reason.
   */
  async call<T = unknown>(method: string, path: string, parts: RequestParts = {}): Promise<T> {
    const ends = performance.now() + (parts.deadline ?? this.deadline);
    const headers = { ...parts.headers };
    if (!SAFE.has(method)) headers["Idempotency-Key"] ??= parts.requestId ?? newId();
    if (parts.ifMatch !== undefined) headers["If-Match"] = `"${parts.ifMatch}"`;
    for (let repeats = 0; ; repeats++) {
      parts.signal?.throwIfAborted();
      try {
        return (await this.attempt(method, path, { ...parts, headers }, ends - performance.now())) as T;
      } catch (error) {
        parts.signal?.throwIfAborted();
        const pause = pauseAfter(error, repeats);
        if (pause === undefined || performance.now() + pause >= ends) throw error;
        await sleep(pause, parts.signal);
      }
    }
  }

  /**
   * Return the response to a request that is sent once, or twice if its credential can be renewed.
   *
   * Throws `Unreachable` if there is none.
   */
  async send(method: string, path: string, parts: RequestParts, signal?: AbortSignal): Promise<Response> {
    if (parts.anonymous) return this.request(method, path, parts, {}, signal);
    const used = await this.credentials.headers(method);
    const response = await this.request(method, path, parts, used, signal);
    if (response.status !== 401) return response;
    const error = await errorOf(response);
    if (error.code !== "unauthenticated" || !(await this.credentials.renew(used))) throw error;
    return this.request(method, path, parts, await this.credentials.headers(method), signal);
  }

  private async attempt(method: string, path: string, parts: RequestParts, left: number): Promise<unknown> {
    const milliseconds = Math.max(Math.ceil(left), 1);
    const headers = { ...parts.headers, Deadline: `${milliseconds}` };
    const patience = new Patience(parts.signal);
    patience.within(Math.min(milliseconds, ATTEMPT) + ON_THE_WAY);
    try {
      const response = await patience.of(this.send(method, path, { ...parts, headers }, patience.signal));
      // A large body may take longer than an attempt.
      patience.within(milliseconds + ON_THE_WAY);
      if (!response.ok) throw await patience.of(errorOf(response));
      return await patience.of(decode(response));
    } catch (error) {
      throw patience.over ? new Unreachable(`${this.url} didn't answer in time`, error) : error;
    } finally {
      patience.end();
    }
  }

  private async request(
    method: string,
    path: string,
    parts: RequestParts,
    credential: Record<string, string>,
    signal?: AbortSignal,
  ): Promise<Response> {
    const headers = { ...parts.headers, ...credential };
    if (parts.body !== undefined) headers["Content-Type"] ??= "application/json";
    const request = new Request(`${this.url}${path}${queryOf(parts.params)}`, {
      method,
      headers,
      ...(parts.body === undefined ? {} : { body: JSON.stringify(parts.body) }),
      ...(signal ? { signal } : {}),
      // A bearer token beside the cookies of another session would be refused.
      credentials: this.credentials.cookies ? "same-origin" : "omit",
    });
    try {
      return await this.fetch.call(globalThis, request);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Unreachable(`${this.url} can't be reached`, error);
    }
  }
}

/** Return a new ID of 32 hexadecimal digits. Unlike `randomUUID`, this also works on pages without TLS. */
export function newId(): string {
  return hex(crypto.getRandomValues(new Uint8Array(16)));
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Return the milliseconds to wait before the request is repeated; undefined if a repeat would fail alike. */
export function pauseAfter(error: unknown, repeats: number): number | undefined {
  if (!(error instanceof ApiError) || !error.retryable) return undefined;
  const grown = Math.min(FIRST_PAUSE * 2 ** repeats, LONGEST_PAUSE);
  return Math.max((error.retryAfter ?? 0) * 1000, grown * (0.5 + Math.random() / 2));
}

function queryOf(params: object = {}): string {
  const given = Object.entries(params).filter(([, value]) => value !== undefined && value !== null);
  return given.length ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : "";
}

async function decode(response: Response): Promise<unknown> {
  const text = await response.text();
  if (!text) return undefined;
  return /^application\/([\w.-]+\+)?json\b/.test(response.headers.get("content-type") ?? "") ? JSON.parse(text) : text;
}
