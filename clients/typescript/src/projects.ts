/** Projects, their members, and tasks that run in the background. */

import { list } from "./data.js";
import type { CallOptions, HttpApi } from "./http.js";
import type { Pages } from "./pages.js";
import { sleep } from "./patience.js";
import type { components } from "./schema.js";

type Schemas = components["schemas"];

export type Project = Schemas["Project"];
export type Member = Schemas["Member"];
export type Task = Schemas["Task"];
export type NewProject = Pick<Schemas["ProjectBody"], "name"> & Partial<Schemas["ProjectBody"]>;
export type NewTask = Pick<Schemas["CreateTaskBody"], "kind"> & Partial<Schemas["CreateTaskBody"]>;

const ENDED = new Set(["succeeded", "failed", "cancelled"]);
// Milliseconds between two looks at a task.
const FIRST_PAUSE = 100;
const LONGEST_PAUSE = 2_000;

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
  constructor(private readonly api: HttpApi) {}

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
    let last: Task | undefined;
    for await (const now of this.progress(id, options)) last = now;
    return last as Task;
  }

  /** Yield a task as it is now, after each change that is seen, and as it has ended: it is read every two seconds. */
  async *progress(id: string, options: { signal?: AbortSignal } = {}): AsyncGenerator<Task, void, undefined> {
    let version = 0;
    let pause = FIRST_PAUSE;
    for (;;) {
      const now = await this.get(id, options);
      if (now.version !== version) yield now;
      if (ENDED.has(now.status)) return;
      pause = now.version === version ? Math.min(pause * 2, LONGEST_PAUSE) : FIRST_PAUSE;
      version = now.version;
      await sleep(pause, options.signal);
    }
  }
}

const MERGE = { "Content-Type": "application/merge-patch+json" };
const path = (project: string) => `/projects/${encodeURIComponent(project)}`;
const member = (project: string, user: string) => `${path(project)}/members/${encodeURIComponent(user)}`;
const task = (id: string) => `/tasks/${encodeURIComponent(id)}`;
