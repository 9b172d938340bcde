/** The client of a fleet. */

import { Auth, type Session, type Token } from "./auth.js";
import { type Collection, Data } from "./data.js";
import { type EventFilter, type EventOf, EventStream, type StreamOptions } from "./events.js";
import type { FleetTypes, ObjectOf, ObjectsOf, Untyped } from "./fleet.js";
import { HttpApi, type RequestParts } from "./http.js";
import { objectOf, objectsOf } from "./objects.js";
import { Projects, Tasks } from "./projects.js";

const DEADLINE = 30_000;

export interface ConnectOptions {
  /** An access token or API key, or a function that returns one. Without it, log in with `client.auth`. */
  token?: Token;
  /** The tokens of an earlier login, as `client.auth.session` had them. */
  session?: Session | null;
  /** Milliseconds until a call fails, repeats included; 30,000 by default. */
  deadline?: number;
  /** What sends requests, by default the platform's own. */
  fetch?: typeof fetch;
}

interface TypedData<Collections> extends Data {
  collection<Name extends keyof Collections & string>(name: Name): Collection<Collections[Name]>;
  collection<T = any>(name: string): Collection<T>;
}

/** A fleet, whose types `aidevos types --typescript` writes. */
export interface Client<Fleet extends FleetTypes = Untyped> {
  /** Objects: `client.objects.counter("clicks").increment({ by: 2 })`. */
  readonly objects: ObjectsOf<Fleet["objects"]>;
  readonly auth: Auth;
  readonly data: TypedData<Fleet["collections"]>;
  readonly projects: Projects;
  readonly tasks: Tasks;

  /** Return an object by the name of its type, which may be known only when the program runs. */
  object<T extends keyof Fleet["objects"] & string>(type: T, name: string): ObjectOf<Fleet["objects"][T]>;
  object(type: string, name: string): ObjectOf<any>;

  /** Follow the events that match, from now on or from `after`. */
  events(filter?: EventFilter, options?: StreamOptions): EventStream<EventOf<Fleet["events"]>>;

  /** Send any request of the API and return its decoded answer. */
  call<T = any>(method: string, path: string, parts?: RequestParts): Promise<T>;
}

/**
 * Return the client of the fleet whose gateway has this URL, by default that of the page.
 *
 * In a page of the gateway's own origin, logins are kept in cookies, unless there is a `token` or `session`.
 */
export function connect<Fleet extends FleetTypes = Untyped>(url?: string, options: ConnectOptions = {}): Client<Fleet> {
  const origin = globalThis.location?.origin;
  const base = (url ?? origin ?? "").replace(/\/+$/, "");
  if (!/^https?:\/\//.test(base)) throw new TypeError(`not the http(s) URL of a gateway: "${base}"`);
  const cookies = new URL(base).origin === origin && options.token === undefined && !options.session;
  const auth = new Auth(options.token, options.session ?? null, cookies);
  const api = new HttpApi(base, auth, options.deadline ?? DEADLINE, options.fetch ?? globalThis.fetch);
  auth.use(api);
  return {
    objects: objectsOf(api),
    auth,
    data: new Data(api),
    projects: new Projects(api),
    tasks: new Tasks(api),
    object: (type: string, name: string) => objectOf(api, type, name),
    events: (filter?: EventFilter, more?: StreamOptions) => new EventStream(api, filter, more),
    call: (method: string, path: string, parts?: RequestParts) => api.call(method, path, parts),
  } as unknown as Client<Fleet>;
}
