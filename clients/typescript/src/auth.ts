/**
 * Logins, and the credential of each request.
 *
 * In a page of the gateway's own origin, the session is in cookies that no script can read. Elsewhere the tokens are in
 * memory. Either way, an access token that has expired is renewed once, for all requests that it was refused to.
 */

import { ApiError } from "./errors.js";
import type { Credentials, HttpApi } from "./http.js";
import type { components } from "./schema.js";

type Schemas = components["schemas"];

/** The tokens of a session, or what is known of a session in cookies. */
export type Session = Schemas["TokenPair"] | Schemas["CookieSession"];
export type User = Schemas["User"];
export type Whoami = Schemas["Whoami"];

/** An access token or API key, or a function that returns one. It is asked again after a token was refused. */
export type Token = string | (() => string | Promise<string>);

/** What to log in with. */
export interface Login {
  /** A username or an e-mail address. */
  username: string;
  password: string;
  /** The code of an authenticator app. */
  otp?: string;
}

type Listener = (session: Session | null) => void;

export class Auth implements Credentials {
  /** The present session; null if there is none, or none is known. */
  session: Session | null;
  private readonly listeners = new Set<Listener>();
  private renewal: Promise<boolean> | undefined;
  private api!: HttpApi;

  constructor(
    private readonly token: Token | undefined,
    session: Session | null,
    readonly cookies: boolean,
  ) {
    this.session = session;
  }

  /** Send the requests of this object through `api`. */
  use(api: HttpApi): void {
    this.api = api;
  }

  /** Call `listener` whenever the session begins, is renewed, or ends (null). Return a function that stops this. */
  subscribe(listener: Listener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Register a user, who can then log in. */
  register(body: Schemas["RegisterBody"]): Promise<User> {
    return this.api.call("POST", "/auth/register", { body, anonymous: true });
  }

  /** Log in. Throws `ApiError` with the code `mfa-required` if a second factor is missing: see `verify`. */
  login(body: Login): Promise<Session> {
    return this.open("/auth/login", body);
  }

  /** Complete a login with the `challenge` of the error `mfa-required`, in `problem.challenge`. */
  verify(body: Schemas["MfaVerifyBody"]): Promise<Session> {
    return this.open("/auth/mfa/verify", body);
  }

  /** Return the caller, with its permissions. */
  me(): Promise<Whoami> {
    return this.api.call("GET", "/auth/me");
  }

  /** End this session, or with `all` every session of the user. */
  async logout({ all = false } = {}): Promise<void> {
    try {
      await this.api.call("POST", "/auth/logout", { params: all ? { all } : {} });
    } catch (error) {
      // The session has ended by itself.
      if (!(error instanceof ApiError && error.status === 401)) throw error;
    }
    this.change(null);
  }

  async headers(method: string): Promise<Record<string, string>> {
    if (this.token !== undefined) return bearer(typeof this.token === "string" ? this.token : await this.token());
    if (this.session && "access_token" in this.session) return bearer(this.session.access_token);
    return this.cookies && method !== "GET" && method !== "HEAD" ? csrf() : {};
  }

  async renew(refused: Record<string, string>): Promise<boolean> {
    if (typeof this.token === "string") return false;
    const now = await this.headers("POST");
    if (this.token !== undefined || (now.Authorization && now.Authorization !== refused.Authorization)) {
      return now.Authorization !== refused.Authorization;
    }
    this.renewal ??= this.refresh().finally(() => {
      this.renewal = undefined;
    });
    return this.renewal;
  }

  private async open(path: string, body: object): Promise<Session> {
    const params = this.cookies ? { cookie: true } : {};
    return this.change(await this.api.call<Session>("POST", path, { body, params, anonymous: true }));
  }

  private async refresh(): Promise<boolean> {
    const held = this.session && "refresh_token" in this.session ? this.session.refresh_token : undefined;
    const headers = this.cookies ? csrf() : {};
    if (!held && !headers["X-CSRF-Token"]) return false;
    const body = held ? { refresh_token: held } : undefined;
    try {
      this.change(await this.api.call<Session>("POST", "/auth/refresh", { body, headers, anonymous: true }));
      return true;
    } catch (error) {
      if (!(error instanceof ApiError) || error.retryable) throw error;
      this.change(null);
      return false;
    }
  }

  private change<S extends Session | null>(session: S): S {
    this.session = session;
    for (const listener of [...this.listeners]) listener(session);
    return session;
  }
}

function bearer(token: string): Record<string, string> {
  return { Authorization: `${token.startsWith("adk_") ? "ApiKey" : "Bearer"} ${token}` };
}

/** Return the header that shows that the page belongs to the gateway's origin; it is empty without a session. */
function csrf(): Record<string, string> {
  const found = /(?:^|; )(?:__Host-)?aidevos_csrf=([^;]+)/.exec(document.cookie);
  return found?.[1] ? { "X-CSRF-Token": found[1] } : {};
}
