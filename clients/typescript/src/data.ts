/** Collections of documents. */

import type { CallOptions, HttpApi } from "./http.js";
import { type Page, Pages } from "./pages.js";
import type { components } from "./schema.js";

type Schemas = components["schemas"];

/** An item of a collection; `version` is its entity tag. */
export type Item<T> = Omit<Schemas["Item"], "data"> & { data: T };
/** A collection's configuration. */
export type Config = Partial<Schemas["Config"]>;
/** One operation of a JSON patch (RFC 6902). */
export type PatchOperation = { op: string; path: string; from?: string; value?: unknown };
/** A merge patch (RFC 7396): null removes a member. */
export type MergePatch<T> = T extends unknown[] ? T : T extends object ? { [K in keyof T]?: MergePatch<T[K]> | null } : T;

interface Operators<V> {
  eq?: V | null;
  ne?: V | null;
  gt?: V;
  gte?: V;
  lt?: V;
  lte?: V;
  in?: (V | null)[];
  nin?: (V | null)[];
  exists?: boolean;
  contains?: V extends (infer Part)[] ? Part : V;
  starts_with?: string;
}

/** What items must match: operators for paths in their data, and `and`, `or` and `not` of further filters. */
export type Filter<T = any> = 0 extends 1 & T
  ? Record<string, unknown>
  : { [K in keyof T]?: Operators<NonNullable<T[K]>> } & {
      and?: Filter<T>[];
      or?: Filter<T>[];
      not?: Filter<T>;
      [path: `${string}.${string}`]: Operators<any>;
    };

/** Which items to find. */
export interface Find<T = any> {
  filter?: Filter<T>;
  /** Paths in the data, such as `-price,name`; a minus reverses the order. */
  sort?: string;
  /** The paths in the data to show; by default all. */
  fields?: string[];
  /** The number of items on a page: 50 by default, at most 500. */
  limit?: number;
  /** Count all items that match, in the `count` of each page. */
  count?: boolean;
}

/** A page of items. */
export type ItemPage<T> = Page<Item<T>> & { count?: number };

/** Options of a call that replaces an item. */
export interface PutOptions extends CallOptions {
  /** Make a new item; if there is one, fail with `precondition-failed`. */
  create?: boolean;
}

export class Data {
  constructor(private readonly api: HttpApi) {}

  /** Return a collection, which need not exist. */
  collection<T = any>(name: string): Collection<T> {
    return new Collection(this.api, name);
  }

  /** List the collections that the caller may see, by default of all projects. */
  collections(params: { project?: string; limit?: number } = {}): Pages<Schemas["CollectionEntry"]> {
    return list(this.api, "/data/collections", params);
  }
}

/** A collection whose items have data of the type `T`. */
export class Collection<T = any> {
  private readonly path: string;

  constructor(
    private readonly api: HttpApi,
    readonly name: string,
  ) {
    this.path = `/data/collections/${encodeURIComponent(name)}`;
  }

  /** Find the items that match and that the caller may read. */
  find(query: Find<T> = {}, options: CallOptions = {}): Pages<Item<T>, ItemPage<T>> {
    const { filter, fields, ...rest } = query;
    const params = { ...rest, filter: filter && JSON.stringify(filter), fields: fields?.join(",") };
    return list(this.api, this.path, params, options);
  }

  /** Return the number of items that match and that the caller may read. */
  async count(filter?: Filter<T>, options: CallOptions = {}): Promise<number> {
    const query: Find<T> = { count: true, limit: 1 };
    return (await this.find(filter ? { ...query, filter } : query, options).page()).count ?? 0;
  }

  /** Return an item, or an earlier version of it. Throws `ApiError` with the code `not-found` if there is none. */
  get(id: string, options: CallOptions & { version?: number; fields?: string[] } = {}): Promise<Item<T>> {
    const { version, fields, ...rest } = options;
    return this.api.call("GET", this.item(id), { ...rest, params: { version, fields: fields?.join(",") } });
  }

  /** Make an item, by default with a new ID. */
  create(data: T, options: CallOptions & { id?: string } = {}): Promise<Item<T>> {
    const { id, ...rest } = options;
    return this.api.call("POST", this.path, { ...rest, body: { id, data } });
  }

  /** Make up to 1,000 items; each has a result of its own. */
  async createMany(items: { id?: string; data: T }[], options: CallOptions = {}): Promise<Schemas["BulkResult"][]> {
    const answer = await this.api.call<Schemas["BulkResults"]>("POST", this.path, { ...options, body: items });
    return answer.results;
  }

  /** Replace an item's data, with `ifMatch` only that of this version; or make a new item with `create`. */
  put(id: string, data: T, options: PutOptions = {}): Promise<Item<T>> {
    const { create, ...rest } = options;
    const headers = create ? { "If-None-Match": "*" } : {};
    return this.api.call("PUT", this.item(id), { ...rest, headers, body: { data } });
  }

  /** Change an item by a merge patch, or by the operations of a JSON patch. */
  patch(id: string, patch: MergePatch<T> | PatchOperation[], options: CallOptions = {}): Promise<Item<T>> {
    const kind = Array.isArray(patch) ? "json-patch" : "merge-patch";
    const headers = { "Content-Type": `application/${kind}+json` };
    return this.api.call("PATCH", this.item(id), { ...options, headers, body: patch });
  }

  /** Delete an item, with `ifMatch` only this version. */
  delete(id: string, options: CallOptions = {}): Promise<void> {
    return this.api.call("DELETE", this.item(id), options);
  }

  /** List an item's versions, the latest first. */
  history(id: string, options: CallOptions & { limit?: number } = {}): Pages<Schemas["Version"]> {
    const { limit, ...rest } = options;
    return list(this.api, `${this.item(id)}/history`, { limit }, rest);
  }

  /** Give an item the data of an earlier version, also after its deletion. */
  restore(id: string, version: number, options: CallOptions = {}): Promise<Item<T>> {
    return this.api.call("POST", `${this.item(id)}/restore`, { ...options, params: { version } });
  }

  /** Return the collection's configuration. */
  config(options: CallOptions = {}): Promise<Schemas["Collection"]> {
    return this.api.call("GET", `${this.path}/config`, options);
  }

  /** Make the collection, or replace its configuration as a whole. */
  configure(config: Config, options: CallOptions = {}): Promise<Schemas["Collection"]> {
    return this.api.call("PUT", this.path, { ...options, body: config });
  }

  /** Delete the collection with its items. */
  drop(options: CallOptions = {}): Promise<void> {
    return this.api.call("DELETE", this.path, options);
  }

  private item(id: string): string {
    return `${this.path}/${encodeURIComponent(id)}`;
  }
}

/** Return the list at a path. */
export function list<T, P extends Page<T> = Page<T>>(
  api: HttpApi,
  path: string,
  params: object = {},
  options: CallOptions = {},
): Pages<T, P> {
  return new Pages((cursor) => api.call<P>("GET", path, { ...options, params: { ...params, cursor } }));
}
