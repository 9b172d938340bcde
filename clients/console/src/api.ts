/** Requests to the gateway's public API, with the cookies of the browser session. */

import type { components } from "./schema";
import { texts } from "./texts";

export type Schemas = components["schemas"];

/** A page of a list of the API. */
export interface PageOf<T> {
  items: T[];
  next_cursor?: string | null;
}

/** Loads the page of a list that begins at a cursor. */
export type Pages<T> = (cursor?: string) => Promise<PageOf<T>>;

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
export const MERGE_PATCH = { "Content-Type": "application/merge-patch+json" };

async function send(request: Request): Promise<Response> {
  try {
    return await fetch(request);
  } catch (error) {
    if (request.signal.aborted) throw error;
    throw new Problem(0, "unreachable", texts.unreachable);
  }
}

/** All requests that meet an ended access token share one renewal. */
let renewal: Promise<boolean> | undefined;
let renewals = 0;

function renew(): Promise<boolean> {
  renewal ??= send(
    new Request("/auth/refresh", { method: "POST", headers: { "X-CSRF-Token": csrfToken() } }),
  )
    .then((response) => response.ok)
    .finally(() => {
      renewal = undefined;
      renewals++;
    });
  return renewal;
}

/** Return true if the session's access token is good, and was so before. */
async function isAlive(before: number): Promise<boolean> {
  const { ok } = await send(new Request("/auth/me"));
  return ok && before === renewals;
}

/** Send a request with the session's cookies; renew the session once if its access token has ended. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  // An object's version doesn't say whether it is in memory, so a cached answer may be wrong.
  const input = new Request(new URL(path, location.origin), { cache: "no-store", ...init });
  const attempt = () => {
    const copy = input.clone();
    if (!SAFE.has(copy.method)) copy.headers.set("X-CSRF-Token", csrfToken());
    return send(copy);
  };
  const before = renewals;
  const response = await attempt();
  if (response.status !== 401 || !csrfToken() || path.startsWith("/auth/login")) return response;
  // Then a password or code in the request is wrong, which must not count twice.
  if (await isAlive(before)) return response;
  if (await renew()) return attempt();
  onSignedOut();
  return response;
}

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

/** Send a request and return the decoded body of its answer. Throws `Problem`. */
export async function call<T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<T> {
  const init: RequestInit = { method, headers };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "Content-Type": "application/json", ...headers };
  }
  const response = await request(path, init);
  if (!response.ok) throw await problemOf(response);
  const text = await response.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

/** Return a path with these parameters, without those that are empty. */
export function withQuery(path: string, values: Record<string, string | undefined>): string {
  const filled = Object.entries(values).filter((each): each is [string, string] => Boolean(each[1]));
  return filled.length ? `${path}?${new URLSearchParams(filled)}` : path;
}

/** Return a function that loads the pages of a list. */
export function pagesOf<T>(path: string, filter: Record<string, string | undefined> = {}): Pages<T> {
  return (cursor) => call<PageOf<T>>("GET", withQuery(path, { ...filter, cursor }));
}

/** The condition that nobody has changed something since this version. */
export function ifMatch(shown: { version: number } | undefined): Record<string, string> {
  // What nobody has set yet has no version.
  return shown?.version ? { "If-Match": `"${shown.version}"` } : {};
}
