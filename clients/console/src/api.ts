/** Requests to the gateway's public API, with the cookies of the browser session. */

import createClient, { type Middleware } from "openapi-fetch";
import type { components, paths } from "./schema";
import { texts } from "./texts";

export type Schemas = components["schemas"];

/** A problem document (RFC 9457), or a failure to reach the gateway at all. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    readonly field: string = "",
    readonly extra: Record<string, unknown> = {},
  ) {
    super(detail);
  }
}

/** Called when the session has ended and can't be renewed. */
let onSignedOut = () => {};

export function whenSignedOut(callback: () => void) {
  onSignedOut = callback;
}

function csrfToken(): string {
  const found = /(?:^|; )(?:__Host-)?aidevos_csrf=([^;]+)/.exec(document.cookie);
  return found?.[1] ?? "";
}

const SAFE = new Set(["GET", "HEAD"]);

async function send(request: Request): Promise<Response> {
  try {
    return await fetch(request);
  } catch {
    throw new Problem(0, "unreachable", texts.unreachable);
  }
}

/** All requests that meet an ended access token share one renewal. */
let renewal: Promise<boolean> | undefined;

function renew(): Promise<boolean> {
  renewal ??= send(
    new Request("/auth/refresh", { method: "POST", headers: { "X-CSRF-Token": csrfToken() } }),
  )
    .then((response) => response.ok)
    .finally(() => {
      renewal = undefined;
    });
  return renewal;
}

/** Send a request with the session's cookies; renew the session once if its access token has ended. */
export async function request(input: Request): Promise<Response> {
  const attempt = () => {
    const copy = input.clone();
    if (!SAFE.has(copy.method)) copy.headers.set("X-CSRF-Token", csrfToken());
    return send(copy);
  };
  const response = await attempt();
  if (response.status !== 401 || !csrfToken() || input.url.includes("/auth/login")) return response;
  if (await renew()) return attempt();
  onSignedOut();
  return response;
}

const throwProblems: Middleware = {
  async onResponse({ response }) {
    if (!response.ok && response.status !== 304) throw await problemOf(response);
    return undefined;
  },
};

/** Return the problem that an answer describes. */
export async function problemOf(response: Response): Promise<Problem> {
  const body: Record<string, unknown> = await response.json().catch(() => ({}));
  const text = (name: string) => (typeof body[name] === "string" ? (body[name] as string) : "");
  return new Problem(
    response.status,
    text("code") || "unknown",
    text("detail") || text("title") || texts.failed(response.status),
    text("field"),
    body,
  );
}

export const api = createClient<paths>({ baseUrl: location.origin, fetch: request });
api.use(throwProblems);

/** Return the data of an answer; `api` has already thrown if there is none. */
export async function dataOf<T>(answer: Promise<{ data?: T }>): Promise<T> {
  return (await answer).data as T;
}

/** Request a path that the description has no operation for, such as a type's own; return the decoded body. */
export async function call<T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
  const init: RequestInit = { method, headers: { ...headers } };
  if (body !== undefined) {
    init.body = typeof body === "string" ? body : JSON.stringify(body);
    init.headers = { "Content-Type": "application/json", ...headers };
  }
  const response = await request(new Request(new URL(path, location.origin), init));
  if (!response.ok) throw await problemOf(response);
  if (response.status === 204) return undefined as T;
  const kind = response.headers.get("content-type") ?? "";
  return (kind.includes("json") && !kind.includes("ndjson") ? await response.json() : await response.text()) as T;
}
