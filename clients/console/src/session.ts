/** The user of this browser session, and what they may do. */

import { computed, signal } from "@preact/signals";
import { call, Problem, type Schemas, whenSignedOut } from "./api";

export type Me = Schemas["Whoami"];

/** Undefined until it is known; null while nobody is logged in. */
export const me = signal<Me | null | undefined>(undefined);
export const permissions = computed(() => new Set(me.value?.permissions ?? []));

/** Return true if the user has the permission; the API checks it again. */
export function may(permission: string): boolean {
  return permissions.value.has("*") || permissions.value.has(permission);
}

export async function loadSession(): Promise<void> {
  try {
    me.value = await call<Me>("GET", "/auth/me");
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 401) throw error;
    me.value = null;
  }
}

export async function signOut(): Promise<void> {
  await call("POST", "/auth/logout").catch(() => {});
  me.value = null;
}

whenSignedOut(() => {
  me.value = null;
});
