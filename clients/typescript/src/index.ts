/** The client of AIDevOS fleets for browsers, Node.js and whatever else has `fetch`. */

export type { Auth, Login, Session, Token, User, Whoami } from "./auth.js";
export { type Client, type ConnectOptions, connect } from "./client.js";
export type { Collection, Config, Data, Filter, Find, Item, ItemPage, MergePatch, PatchOperation, PutOptions } from "./data.js";
export { ApiError, type FieldError, type Problem, Unreachable } from "./errors.js";
export type { EventFilter, EventOf, EventStream, FleetEvent, Gap, StreamOptions, StreamState } from "./events.js";
export type { FleetTypes, Method, ObjectOf, ObjectsOf, Untyped } from "./fleet.js";
export type { CallOptions, RequestParts } from "./http.js";
export { idOf } from "./objects.js";
export type { Page, Pages } from "./pages.js";
export type { Member, NewProject, NewTask, Project, Projects, Task, Tasks } from "./projects.js";
export type { components, paths } from "./schema.js";
