/** Objects, whose methods are called like those of local ones. */

import type { CallOptions, HttpApi } from "./http.js";
import { hex } from "./http.js";

const isId = (name: string) => /^[A-Za-z0-9_-]{1,128}$/.test(name);
const isName = (property: unknown): property is string =>
  // An object with a method `then` would be taken for a promise.
  typeof property === "string" && /^[a-z][a-z0-9_]*$/.test(property) && property !== "then";

/** Return what `make` returns for each name, as properties that are made when they are read. */
function lazily<T>(make: (name: string) => T): Record<string, T> {
  const made = new Map<string, T>();
  return new Proxy(Object.create(null), {
    get(_, property) {
      if (!isName(property)) return undefined;
      if (!made.has(property)) made.set(property, make(property));
      return made.get(property);
    },
    has: (_, property) => isName(property),
  });
}

/** Return every type of objects as a property. */
export function objectsOf(api: HttpApi): Record<string, (name: string) => unknown> {
  return lazily((type) => (name: string) => objectOf(api, type, name));
}

/** Return an object with all its methods as properties. A name that isn't a valid ID is hashed. */
export function objectOf(api: HttpApi, type: string, name: string): Record<string, unknown> {
  const path = pathOf(type, name);
  return lazily((method) => async (args: object = {}, options: CallOptions = {}) => {
    const body = { method, args };
    const answer = await api.call<{ result: unknown }>("POST", `${await path}/request`, { ...options, body });
    return answer.result;
  });
}

async function pathOf(type: string, name: string): Promise<string> {
  return `/durable-objects/${type}:${await idOf(type, name)}`;
}

/** Return the ID of the object with this name, the same in every language. Only pages with TLS can hash a name. */
export async function idOf(type: string, name: string): Promise<string> {
  if (isId(name)) return name;
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(`${type}:${name}`));
  return hex(new Uint8Array(digest));
}
