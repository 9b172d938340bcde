// src/errors.ts
var RETRYABLE = /* @__PURE__ */ new Set(["rate-limited", "unavailable", "overloaded", "moved"]);
var ApiError = class extends Error {
  constructor(problem, requestId = "", options) {
    super(problem.detail || problem.title || problem.code, options);
    this.problem = problem;
    this.requestId = requestId;
    this.status = problem.status;
    this.code = problem.code;
    this.field = problem.field ?? void 0;
    this.errors = problem.errors ?? [];
    this.retryAfter = problem.retry_after ?? void 0;
    this.retryable = RETRYABLE.has(problem.code);
  }
  problem;
  requestId;
  name = "ApiError";
  status;
  code;
  /** The path of the value that was refused, or undefined. */
  field;
  errors;
  /** Seconds after which a repeat may succeed, or undefined. */
  retryAfter;
  /** True if the same request may succeed later. The client has then repeated it until its deadline. */
  retryable;
};
var Unreachable = class extends ApiError {
  name = "Unreachable";
  constructor(detail, cause) {
    super({ code: "unavailable", status: 503, detail }, "", { cause });
  }
};
async function errorOf(response) {
  const { status } = response;
  const found = await response.json().catch(() => null);
  const code = found?.code ?? ([502, 503, 504].includes(status) ? "unavailable" : "unexpected-answer");
  const problem = { detail: `${response.url} answered ${status}`, ...found, code, status };
  return new ApiError(problem, response.headers.get("x-request-id") ?? "");
}

// src/auth.ts
var Auth = class {
  constructor(token, session, cookies) {
    this.token = token;
    this.cookies = cookies;
    this.session = session;
  }
  token;
  cookies;
  /** The present session; null if there is none, or none is known. */
  session;
  listeners = /* @__PURE__ */ new Set();
  renewal;
  api;
  /** Send the requests of this object through `api`. */
  use(api) {
    this.api = api;
  }
  /** Call `listener` whenever the session begins, is renewed, or ends (null). Return a function that stops this. */
  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
  /** Register a user, who can then log in. */
  register(body) {
    return this.api.call("POST", "/auth/register", { body, anonymous: true });
  }
  /** Log in. Throws `ApiError` with the code `mfa-required` if a second factor is missing: see `verify`. */
  login(body) {
    return this.open("/auth/login", body);
  }
  /** Complete a login with the `challenge` of the error `mfa-required`, in `problem.challenge`. */
  verify(body) {
    return this.open("/auth/mfa/verify", body);
  }
  /** Return the caller, with its permissions. */
  me() {
    return this.api.call("GET", "/auth/me");
  }
  /** End this session, or with `all` every session of the user. */
  async logout({ all = false } = {}) {
    try {
      await this.api.call("POST", "/auth/logout", { params: all ? { all } : {} });
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 401)) throw error;
    }
    this.change(null);
  }
  async headers(method) {
    if (this.token !== void 0) return bearer(typeof this.token === "string" ? this.token : await this.token());
    if (this.session && "access_token" in this.session) return bearer(this.session.access_token);
    return this.cookies && method !== "GET" && method !== "HEAD" ? csrf() : {};
  }
  async renew(refused) {
    if (typeof this.token === "string") return false;
    const now = await this.headers("POST");
    if (this.token !== void 0 || now.Authorization && now.Authorization !== refused.Authorization) {
      return now.Authorization !== refused.Authorization;
    }
    this.renewal ??= this.refresh().finally(() => {
      this.renewal = void 0;
    });
    return this.renewal;
  }
  async open(path2, body) {
    const params = this.cookies ? { cookie: true } : {};
    return this.change(await this.api.call("POST", path2, { body, params, anonymous: true }));
  }
  async refresh() {
    const held = this.session && "refresh_token" in this.session ? this.session.refresh_token : void 0;
    const headers = this.cookies ? csrf() : {};
    if (!held && !headers["X-CSRF-Token"]) return false;
    const body = held ? { refresh_token: held } : void 0;
    try {
      this.change(await this.api.call("POST", "/auth/refresh", { body, headers, anonymous: true }));
      return true;
    } catch (error) {
      if (!(error instanceof ApiError) || error.retryable) throw error;
      this.change(null);
      return false;
    }
  }
  change(session) {
    this.session = session;
    for (const listener of [...this.listeners]) listener(session);
    return session;
  }
};
function bearer(token) {
  return { Authorization: `${token.startsWith("adk_") ? "ApiKey" : "Bearer"} ${token}` };
}
function csrf() {
  const found = /(?:^|; )(?:__Host-)?aidevos_csrf=([^;]+)/.exec(document.cookie);
  return found?.[1] ? { "X-CSRF-Token": found[1] } : {};
}

// src/pages.ts
var Pages = class {
  /** `read` returns the page at a cursor, without one the first. */
  constructor(read) {
    this.read = read;
  }
  read;
  /** Return the page at the `next_cursor` of another one, by default the first. */
  page(cursor) {
    return this.read(cursor);
  }
  /** Return all items at once. */
  async all() {
    const found = [];
    for await (const item of this) found.push(item);
    return found;
  }
  async *[Symbol.asyncIterator]() {
    let cursor;
    do {
      const page = await this.read(cursor ?? void 0);
      yield* page.items;
      cursor = page.next_cursor;
    } while (cursor);
  }
};

// src/data.ts
var Data = class {
  constructor(api) {
    this.api = api;
  }
  api;
  /** Return a collection, which need not exist. */
  collection(name) {
    return new Collection(this.api, name);
  }
  /** List the collections that the caller may see, by default of all projects. */
  collections(params = {}) {
    return list(this.api, "/data/collections", params);
  }
};
var Collection = class {
  constructor(api, name) {
    this.api = api;
    this.name = name;
    this.path = `/data/collections/${encodeURIComponent(name)}`;
  }
  api;
  name;
  path;
  /** Find the items that match and that the caller may read. */
  find(query = {}, options = {}) {
    const { filter, fields, ...rest } = query;
    const params = { ...rest, filter: filter && JSON.stringify(filter), fields: fields?.join(",") };
    return list(this.api, this.path, params, options);
  }
  /** Return the number of items that match and that the caller may read. */
  async count(filter, options = {}) {
    const query = { count: true, limit: 1 };
    return (await this.find(filter ? { ...query, filter } : query, options).page()).count ?? 0;
  }
  /** Return an item, or an earlier version of it. Throws `ApiError` with the code `not-found` if there is none. */
  get(id, options = {}) {
    const { version, fields, ...rest } = options;
    return this.api.call("GET", this.item(id), { ...rest, params: { version, fields: fields?.join(",") } });
  }
  /** Make an item, by default with a new ID. */
  create(data, options = {}) {
    const { id, ...rest } = options;
    return this.api.call("POST", this.path, { ...rest, body: { id, data } });
  }
  /** Make up to 1,000 items; each has a result of its own. */
  async createMany(items, options = {}) {
    const answer = await this.api.call("POST", this.path, { ...options, body: items });
    return answer.results;
  }
  /** Replace an item's data, with `ifMatch` only that of this version; or make a new item with `create`. */
  put(id, data, options = {}) {
    const { create, ...rest } = options;
    const headers = create ? { "If-None-Match": "*" } : {};
    return this.api.call("PUT", this.item(id), { ...rest, headers, body: { data } });
  }
  /** Change an item by a merge patch, or by the operations of a JSON patch. */
  patch(id, patch, options = {}) {
    const kind = Array.isArray(patch) ? "json-patch" : "merge-patch";
    const headers = { "Content-Type": `application/${kind}+json` };
    return this.api.call("PATCH", this.item(id), { ...options, headers, body: patch });
  }
  /** Delete an item, with `ifMatch` only this version. */
  delete(id, options = {}) {
    return this.api.call("DELETE", this.item(id), options);
  }
  /** List an item's versions, the latest first. */
  history(id, options = {}) {
    const { limit, ...rest } = options;
    return list(this.api, `${this.item(id)}/history`, { limit }, rest);
  }
  /** Give an item the data of an earlier version, also after its deletion. */
  restore(id, version, options = {}) {
    return this.api.call("POST", `${this.item(id)}/restore`, { ...options, params: { version } });
  }
  /** Return the collection's configuration. */
  config(options = {}) {
    return this.api.call("GET", `${this.path}/config`, options);
  }
  /** Make the collection, or replace its configuration as a whole. */
  configure(config, options = {}) {
    return this.api.call("PUT", this.path, { ...options, body: config });
  }
  /** Delete the collection with its items. */
  drop(options = {}) {
    return this.api.call("DELETE", this.path, options);
  }
  item(id) {
    return `${this.path}/${encodeURIComponent(id)}`;
  }
};
function list(api, path2, params = {}, options = {}) {
  return new Pages((cursor) => api.call("GET", path2, { ...options, params: { ...params, cursor } }));
}

// src/patience.ts
var Patience = class {
  constructor(outer) {
    this.outer = outer;
    if (outer?.aborted) this.abort();
    else outer?.addEventListener("abort", this.abort);
  }
  outer;
  /** True once the time is over. */
  over = false;
  controller = new AbortController();
  abort = () => this.controller.abort(this.outer?.reason);
  timer;
  get signal() {
    return this.controller.signal;
  }
  /** Abort after some milliseconds from now, instead of an earlier choice. */
  within(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.over = true;
      this.controller.abort();
    }, milliseconds);
  }
  /** Stop the clock until `within` is called again. */
  pause() {
    clearTimeout(this.timer);
  }
  /** Let go of the other signal. What still uses this one is aborted. */
  end() {
    this.pause();
    this.outer?.removeEventListener("abort", this.abort);
    this.controller.abort();
  }
  /** Return the outcome of some work, unless the signal aborts first; then throw its reason. */
  async of(work) {
    let abort = () => {
    };
    const aborted = new Promise((_, reject) => {
      abort = () => reject(this.signal.reason);
      if (this.signal.aborted) abort();
      else this.signal.addEventListener("abort", abort);
    });
    try {
      return await Promise.race([work, aborted]);
    } finally {
      this.signal.removeEventListener("abort", abort);
      work.catch(() => {
      });
    }
  }
};
async function sleep(milliseconds, signal) {
  const patience = new Patience(signal);
  let timer;
  try {
    await patience.of(new Promise((resolve) => timer = setTimeout(resolve, milliseconds)));
  } finally {
    clearTimeout(timer);
    patience.end();
  }
}

// src/http.ts
var SAFE = /* @__PURE__ */ new Set(["GET", "HEAD"]);
var ATTEMPT = 1e4;
var ON_THE_WAY = 500;
var FIRST_PAUSE = 100;
var LONGEST_PAUSE = 2e3;
var HttpApi = class {
  /** `url` has no slash at its end, and `deadline` is in milliseconds. */
  constructor(url, credentials, deadline, fetch) {
    this.url = url;
    this.credentials = credentials;
    this.deadline = deadline;
    this.fetch = fetch;
  }
  url;
  credentials;
  deadline;
  fetch;
  /**
   * Return the decoded answer; undefined if it is empty.
   *
   * Retryable failures are repeated within the deadline, under one request ID. Throws `ApiError`, `Unreachable` or the
   * signal's reason.
   */
  async call(method, path2, parts = {}) {
    const ends = performance.now() + (parts.deadline ?? this.deadline);
    const headers = { ...parts.headers };
    if (!SAFE.has(method)) headers["Idempotency-Key"] ??= parts.requestId ?? newId();
    if (parts.ifMatch !== void 0) headers["If-Match"] = `"${parts.ifMatch}"`;
    for (let repeats = 0; ; repeats++) {
      parts.signal?.throwIfAborted();
      try {
        return await this.attempt(method, path2, { ...parts, headers }, ends - performance.now());
      } catch (error) {
        parts.signal?.throwIfAborted();
        const pause = pauseAfter(error, repeats);
        if (pause === void 0 || performance.now() + pause >= ends) throw error;
        await sleep(pause, parts.signal);
      }
    }
  }
  /**
   * Return the response to a request that is sent once, or twice if its credential can be renewed.
   *
   * Throws `Unreachable` if there is none.
   */
  async send(method, path2, parts, signal) {
    if (parts.anonymous) return this.request(method, path2, parts, {}, signal);
    const used = await this.credentials.headers(method);
    const response = await this.request(method, path2, parts, used, signal);
    if (response.status !== 401) return response;
    const error = await errorOf(response);
    if (error.code !== "unauthenticated" || !await this.credentials.renew(used)) throw error;
    return this.request(method, path2, parts, await this.credentials.headers(method), signal);
  }
  async attempt(method, path2, parts, left) {
    const milliseconds = Math.max(Math.ceil(left), 1);
    const headers = { ...parts.headers, Deadline: `${milliseconds}` };
    const patience = new Patience(parts.signal);
    patience.within(Math.min(milliseconds, ATTEMPT) + ON_THE_WAY);
    try {
      const response = await patience.of(this.send(method, path2, { ...parts, headers }, patience.signal));
      patience.within(milliseconds + ON_THE_WAY);
      if (!response.ok) throw await patience.of(errorOf(response));
      return await patience.of(decode(response));
    } catch (error) {
      throw patience.over ? new Unreachable(`${this.url} didn't answer in time`, error) : error;
    } finally {
      patience.end();
    }
  }
  async request(method, path2, parts, credential, signal) {
    const headers = { ...parts.headers, ...credential };
    if (parts.body !== void 0) headers["Content-Type"] ??= "application/json";
    const request = new Request(`${this.url}${path2}${queryOf(parts.params)}`, {
      method,
      headers,
      ...parts.body === void 0 ? {} : { body: JSON.stringify(parts.body) },
      ...signal ? { signal } : {},
      // A bearer token beside the cookies of another session would be refused.
      credentials: this.credentials.cookies ? "same-origin" : "omit"
    });
    try {
      return await this.fetch.call(globalThis, request);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Unreachable(`${this.url} can't be reached`, error);
    }
  }
};
function newId() {
  return hex(crypto.getRandomValues(new Uint8Array(16)));
}
function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
function pauseAfter(error, repeats) {
  if (!(error instanceof ApiError) || !error.retryable) return void 0;
  const grown = Math.min(FIRST_PAUSE * 2 ** repeats, LONGEST_PAUSE);
  return Math.max((error.retryAfter ?? 0) * 1e3, grown * (0.5 + Math.random() / 2));
}
function queryOf(params = {}) {
  const given = Object.entries(params).filter(([, value]) => value !== void 0 && value !== null);
  return given.length ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : "";
}
async function decode(response) {
  const text = await response.text();
  if (!text) return void 0;
  return /^application\/([\w.-]+\+)?json\b/.test(response.headers.get("content-type") ?? "") ? JSON.parse(text) : text;
}

// src/events.ts
var SILENCE = 4e4;
var RESUMABLE = /* @__PURE__ */ new Set(["draining", "slow", "unavailable", "restarted"]);
var EventStream = class {
  constructor(api, filter = {}, options = {}) {
    this.api = api;
    this.filter = filter;
    this.options = options;
    this.position = options.after;
    this.patience = new Patience(options.signal);
    this.found = this.follow();
    this.first = this.found.next();
    const connected = new Promise((resolve) => {
      this.opened = resolve;
    });
    this.ready = Promise.race([connected, this.first.then(() => void 0)]);
    this.ready.catch(() => {
    });
  }
  api;
  filter;
  options;
  /** Settled once the stream is connected: later events are in it. Rejected if it can't be. */
  ready;
  /** The place behind the last event that was read. */
  position;
  patience;
  isClosed = false;
  found;
  first;
  opened;
  retry = 1e3;
  state;
  next() {
    const first = this.first;
    this.first = void 0;
    return first ?? this.found.next();
  }
  return() {
    this.isClosed = true;
    this.patience.end();
    return this.found.return(void 0);
  }
  /** End the stream: the reader's loop ends. */
  close() {
    void this.return().catch(() => {
    });
  }
  [Symbol.asyncIterator]() {
    return this;
  }
  async *follow() {
    const { signal } = this.patience;
    let failures = 0;
    try {
      for (; ; ) {
        try {
          for await (const event of this.connect()) {
            failures = 0;
            if (event) yield event;
          }
        } catch (error) {
          if (signal.aborted || pauseAfter(error, 0) === void 0) throw error;
          this.enter("connecting");
          await sleep(pauseAfter(error, failures++) ?? 0, signal);
        }
        this.enter("connecting");
        await sleep(this.retry, signal);
      }
    } catch (error) {
      if (!this.isClosed) throw signal.aborted ? signal.reason : error;
    } finally {
      this.enter("closed");
      this.patience.end();
    }
  }
  /** Yield what one connection brings; undefined stands for a sign of life. */
  async *connect() {
    const patience = new Patience(this.patience.signal);
    patience.within(SILENCE);
    this.enter("connecting");
    try {
      const headers = this.position ? { "Last-Event-ID": this.position } : {};
      const parts = { params: this.filter, headers };
      const response = await patience.of(this.api.send("GET", "/events", parts, patience.signal));
      if (!response.ok || !response.body) throw await errorOf(response);
      this.enter("connected");
      this.opened();
      for await (const frame of frames(response.body, patience)) {
        if (frame.retry) this.retry = Number(frame.retry);
        if (frame.id) this.position = frame.id;
        yield this.read(frame);
      }
    } catch (error) {
      if (this.patience.signal.aborted || error instanceof ApiError) throw error;
      throw new Unreachable("the stream broke off", error);
    } finally {
      patience.end();
    }
  }
  read(frame) {
    if (!frame.event) return void 0;
    const data = JSON.parse(frame.data);
    const position = this.position ?? "";
    if (frame.event === "gap") return { type: "gap", data, position };
    if (frame.event !== "end") return { ...data, position };
    if (RESUMABLE.has(data.reason) || data.reason === "unauthenticated") return void 0;
    throw new ApiError({ code: data.reason, status: 403, detail: data.detail });
  }
  enter(state) {
    if (state === this.state) return;
    this.state = state;
    this.options.onState?.(state);
  }
};
async function* frames(body, patience) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let lines = [];
  try {
    for (; ; ) {
      patience.within(SILENCE);
      const { done, value } = await patience.of(reader.read());
      patience.pause();
      if (done) return;
      const parts = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n|\r(?!$)/);
      rest = parts.pop() ?? "";
      for (const line of parts) {
        if (line) lines.push(line);
        else {
          yield frameOf(lines);
          lines = [];
        }
      }
      yield frameOf([]);
    }
  } finally {
    reader.cancel().catch(() => {
    });
  }
}
function frameOf(lines) {
  const frame = { event: "", data: "", id: "", retry: "" };
  const data = [];
  for (const line of lines) {
    const [, name = "", value = ""] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (name === "data") data.push(value);
    else if (name === "event" || name === "id" || name === "retry") frame[name] = value;
  }
  frame.data = data.join("\n");
  return frame;
}

// src/objects.ts
var isId = (name) => /^[A-Za-z0-9_-]{1,128}$/.test(name);
var isName = (property) => (
  // An object with a method `then` would be taken for a promise.
  typeof property === "string" && /^[a-z][a-z0-9_]*$/.test(property) && property !== "then"
);
function lazily(make) {
  const made = /* @__PURE__ */ new Map();
  return new Proxy(/* @__PURE__ */ Object.create(null), {
    get(_, property) {
      if (!isName(property)) return void 0;
      if (!made.has(property)) made.set(property, make(property));
      return made.get(property);
    },
    has: (_, property) => isName(property)
  });
}
function objectsOf(api) {
  return lazily((type) => (name) => objectOf(api, type, name));
}
function objectOf(api, type, name) {
  const path2 = pathOf(type, name);
  return lazily((method) => async (args = {}, options = {}) => {
    const body = { method, args };
    const answer = await api.call("POST", `${await path2}/request`, { ...options, body });
    return answer.result;
  });
}
async function pathOf(type, name) {
  return `/durable-objects/${type}:${await idOf(type, name)}`;
}
async function idOf(type, name) {
  if (isId(name)) return name;
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(`${type}:${name}`));
  return hex(new Uint8Array(digest));
}

// src/projects.ts
var ENDED = /* @__PURE__ */ new Set(["succeeded", "failed", "cancelled"]);
var FIRST_PAUSE2 = 100;
var LONGEST_PAUSE2 = 2e3;
var Projects = class {
  constructor(api) {
    this.api = api;
  }
  api;
  /** Find projects of the caller, by part of their name or description or by a member (a user's ID, or `me`). */
  find(params = {}) {
    return list(this.api, "/projects", params);
  }
  create(body, options = {}) {
    return this.api.call("POST", "/projects", { ...options, body });
  }
  get(id, options = {}) {
    return this.api.call("GET", path(id), options);
  }
  /** Change a project by a merge patch. */
  patch(id, body, options = {}) {
    return this.api.call("PATCH", path(id), { ...options, body, headers: MERGE });
  }
  /** Delete a project. What belongs to it goes in the background. */
  delete(id, options = {}) {
    return this.api.call("DELETE", path(id), options);
  }
  async members(id, options = {}) {
    return (await this.api.call("GET", `${path(id)}/members`, options)).items;
  }
  /** Give a user a role in a project. */
  setMember(id, user, role, options = {}) {
    return this.api.call("PUT", member(id, user), { ...options, body: { role } });
  }
  /** Take a user, or with `me` the caller, out of a project. */
  removeMember(id, user, options = {}) {
    return this.api.call("DELETE", member(id, user), options);
  }
};
var Tasks = class {
  constructor(api) {
    this.api = api;
  }
  api;
  /** List a project's tasks. */
  find(project, params = {}) {
    return list(this.api, `${path(project)}/tasks`, params);
  }
  /** Queue a task. */
  create(project, body, options = {}) {
    return this.api.call("POST", `${path(project)}/tasks`, { ...options, body });
  }
  get(id, options = {}) {
    return this.api.call("GET", task(id), options);
  }
  /** Change a queued task by a merge patch. */
  patch(id, body, options = {}) {
    return this.api.call("PATCH", task(id), { ...options, body, headers: MERGE });
  }
  delete(id, options = {}) {
    return this.api.call("DELETE", task(id), options);
  }
  cancel(id, options = {}) {
    return this.api.call("POST", `${task(id)}/cancel`, options);
  }
  /** Queue a task once more that has failed or was cancelled. */
  retry(id, options = {}) {
    return this.api.call("POST", `${task(id)}/retry`, options);
  }
  /** Return a task once it has ended, however it has. Without a signal, this waits for as long as that takes. */
  async wait(id, options = {}) {
    let last;
    for await (const now of this.progress(id, options)) last = now;
    return last;
  }
  /** Yield a task as it is now, after each change that is seen, and as it has ended: it is read every two seconds. */
  async *progress(id, options = {}) {
    let version = 0;
    let pause = FIRST_PAUSE2;
    for (; ; ) {
      const now = await this.get(id, options);
      if (now.version !== version) yield now;
      if (ENDED.has(now.status)) return;
      pause = now.version === version ? Math.min(pause * 2, LONGEST_PAUSE2) : FIRST_PAUSE2;
      version = now.version;
      await sleep(pause, options.signal);
    }
  }
};
var MERGE = { "Content-Type": "application/merge-patch+json" };
var path = (project) => `/projects/${encodeURIComponent(project)}`;
var member = (project, user) => `${path(project)}/members/${encodeURIComponent(user)}`;
var task = (id) => `/tasks/${encodeURIComponent(id)}`;

// src/client.ts
var DEADLINE = 3e4;
function connect(url, options = {}) {
  const origin = globalThis.location?.origin;
  const base = (url ?? origin ?? "").replace(/\/+$/, "");
  if (!/^https?:\/\//.test(base)) throw new TypeError(`not the http(s) URL of a gateway: "${base}"`);
  const cookies = new URL(base).origin === origin && options.token === void 0 && !options.session;
  const auth = new Auth(options.token, options.session ?? null, cookies);
  const api = new HttpApi(base, auth, options.deadline ?? DEADLINE, options.fetch ?? globalThis.fetch);
  auth.use(api);
  return {
    objects: objectsOf(api),
    auth,
    data: new Data(api),
    projects: new Projects(api),
    tasks: new Tasks(api),
    object: (type, name) => objectOf(api, type, name),
    events: (filter, more) => new EventStream(api, filter, more),
    call: (method, path2, parts) => api.call(method, path2, parts)
  };
}
export {
  ApiError,
  Unreachable,
  connect,
  idOf
};
