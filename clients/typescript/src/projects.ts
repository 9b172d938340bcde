/** Projects, their members, and tasks that run in the background. */

import type { Events } from "./events.js";
import { list } from "./data.js";
import type { CallOptions, HttpApi } from "./http.js";
import type { Pages } from "./pages.js";
import type { components } from "./schema.js";

type Schemas = components["schemas"];

export type Project = Schemas["Project"];
export type Member = Schemas["Member"];
export type Task = Schemas["Task"];
export type NewProject = Pick<Schemas["ProjectBody"], "name"> & Partial<Schemas["ProjectBody"]>;
export type NewTask = Pick<Schemas["CreateTaskBody"], "kind"> & Partial<Schemas["CreateTaskBody"]>;

const ENDED = new Set(["succeeded", "failed", "cancelled"]);

export class Projects {
  constructor(private readonly api: HttpApi) {}

  /** Find projects of the caller, by part of their name or description or by a member (a user's ID, or `me`). */
  find(params: { q?: string; member?: string; sort?: string; limit?: number } = {}): Pages<Project> {
    return list(this.api, "/projects", params);
  }

  create(body: NewProject, options: CallOptions = {}): Promise<Project> {
    return this.api.call("POST", "/projects", { ...options, body });
  }

  get(id: string, options: CallOptions = {}): Promise<Project> {
    return this.api.call("GET", path(id), options);
  }

  /** Change a project by a merge patch. */
  patch(id: string, body: Partial<NewProject>, options: CallOptions = {}): Promise<Project> {
    return this.api.call("PATCH", path(id), { ...options, body, headers: MERGE });
  }

  /** Delete a project. What belongs to it goes in the background. */
  delete(id: string, options: CallOptions = {}): Promise<Schemas["Deletion"]> {
    return this.api.call("DELETE", path(id), options);
  }

  async members(id: string, options: CallOptions = {}): Promise<Member[]> {
    return (await this.api.call<Schemas["MemberPage"]>("GET", `${path(id)}/members`, options)).items;
  }

  /** Give a user a role in a project. */
  setMember(id: string, user: string, role: Member["role"], options: CallOptions = {}): Promise<Member> {
    return this.api.call("PUT", member(id, user), { ...options, body: { role } });
  }

  /** Take a user, or with `me` the caller, out of a project. */
  removeMember(id: string, user: string, options: CallOptions = {}): Promise<void> {
    return this.api.call("DELETE", member(id, user), options);
  }
}

export class Tasks {
  constructor(
    private readonly api: HttpApi,
    private readonly events: Events,
  ) {}

  /** List a project's tasks. */
  find(project: string, params: { status?: Task["status"]; kind?: string; sort?: string; limit?: number } = {}): Pages<Task> {
    return list(this.api, `${path(project)}/tasks`, params);
  }

  /** Queue a task. */
  create(project: string, body: NewTask, options: CallOptions = {}): Promise<Task> {
    return this.api.call("POST", `${path(project)}/tasks`, { ...options, body });
  }

  get(id: string, options: CallOptions = {}): Promise<Task> {
    return this.api.call("GET", task(id), options);
  }

  /** Change a queued task by a merge patch. */
  patch(id: string, body: Partial<NewTask>, options: CallOptions = {}): Promise<Task> {
    return this.api.call("PATCH", task(id), { ...options, body, headers: MERGE });
  }

  delete(id: string, options: CallOptions = {}): Promise<void> {
    return this.api.call("DELETE", task(id), options);
  }

  cancel(id: string, options: CallOptions = {}): Promise<Task> {
    return this.api.call("POST", `${task(id)}/cancel`, options);
  }

  /** Queue a task once more that has failed or was cancelled. */
  retry(id: string, options: CallOptions = {}): Promise<Task> {
    return this.api.call("POST", `${task(id)}/retry`, options);
  }

  /** Return a task once it has ended, however it has. Without a signal, this waits for as long as that takes. */
  async wait(id: string, options: { signal?: AbortSignal } = {}): Promise<Task> {
    const events = this.events({ type: "task", id }, options);
    try {
      // Events that come while the task is read are in the stream.
      await events.ready;
      let now = await this.get(id, options);
      while (!ENDED.has(now.status)) {
        await events.next();
        now = await this.get(id, options);
      }
      return now;
    } finally {
      events.close();
    }
  }
}

const MERGE = { "Content-Type": "application/merge-patch+json" };
const path = (project: string) => `/projects/${encodeURIComponent(project)}`;
const member = (project: string, user: string) => `${path(project)}/members/${encodeURIComponent(user)}`;
const task = (id: string) => `/tasks/${encodeURIComponent(id)}`;
