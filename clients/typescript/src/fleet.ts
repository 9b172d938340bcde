/** The types of a fleet: of its objects' methods, its collections and its events. */

import type { CallOptions } from "./http.js";

/** A method: its arguments as one object, and its result. */
export interface Method {
  args: object;
  result: unknown;
}

/** What `aidevos types --typescript` writes for a fleet. */
export interface FleetTypes {
  /** The methods of each type of objects. */
  objects: any;
  /** The data of each collection's items. */
  collections: any;
  /** The data of each event, by the event's type, such as `counter.incremented`. */
  events: any;
}

/** A fleet whose types aren't known. */
export interface Untyped {
  objects: any;
  collections: any;
  events: any;
}

type Call<M> = M extends { args: infer A; result: infer R }
  ? {} extends A
    ? (args?: A, options?: CallOptions) => Promise<R>
    : (args: A, options?: CallOptions) => Promise<R>
  : never;

/** True for a type that isn't known. */
type Unknown<T> = 0 extends 1 & T ? true : false;

/** An object, whose methods are called over HTTP. */
export type ObjectOf<Methods> = Unknown<Methods> extends true ? any : { readonly [M in keyof Methods]: Call<Methods[M]> };

/** Each type of objects as a function that returns the object with a name. */
export type ObjectsOf<Types> = Unknown<Types> extends true
  ? any
  : { readonly [T in keyof Types]: (name: string) => ObjectOf<Types[T]> };
