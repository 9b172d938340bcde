/** Hooks for React. Each component below `FleetProvider` uses its client. */

import { createContext, createElement, type ReactElement, type ReactNode, useCallback, useContext, useEffect, useMemo, useRef, useState } from "react";
import type { Client, EventFilter, EventOf, FleetTypes, Login, ObjectOf, Session, StreamState, Untyped, User } from "./index.js";
import { ApiError } from "./index.js";

const Context = createContext<Client<any> | null>(null);

/** Give the client to all components inside. */
export function FleetProvider(props: { client: Client<any>; children?: ReactNode }): ReactElement {
  return createElement(Context.Provider, { value: props.client }, props.children);
}

/** Return the client of the `FleetProvider` around this component. */
export function useClient<Fleet extends FleetTypes = Untyped>(): Client<Fleet> {
  const client = useContext(Context);
  if (!client) throw new Error("a component uses the fleet without a FleetProvider around it");
  return client as Client<Fleet>;
}

/** Return an object, the same while its type and name are. Call its methods in handlers and effects. */
export function useObject<Fleet extends FleetTypes = Untyped, Type extends keyof Fleet["objects"] & string = string>(
  type: Type,
  name: string,
): ObjectOf<Fleet["objects"][Type]> {
  const client = useClient<Fleet>();
  return useMemo(() => client.object(type, name), [client, type, name]);
}

/** What a query has found so far. */
export interface QueryResult<T> {
  /** The latest result; undefined before the first one. */
  data: T | undefined;
  error: unknown;
  loading: boolean;
  /** Read again. */
  refresh: () => void;
}

export interface QueryOptions {
  /** Read again after each of these events, and after an interruption of their stream. */
  live?: EventFilter;
}

/** Read from the fleet, and again whenever one of `deps` or the client has changed. */
export function useQuery<T, Fleet extends FleetTypes = Untyped>(
  read: (client: Client<Fleet>, signal: AbortSignal) => Promise<T>,
  deps: unknown[],
  options: QueryOptions = {},
): QueryResult<T> {
  const client = useClient<Fleet>();
  const [state, setState] = useState<Omit<QueryResult<T>, "refresh">>({ data: undefined, error: undefined, loading: true });
  const [round, setRound] = useState(0);
  const refresh = useCallback(() => setRound((before) => before + 1), []);
  useEffect(() => {
    const ending = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    const set = (found: { data: T } | { error: unknown }) => {
      if (!ending.signal.aborted) setState((before) => ({ ...before, error: undefined, ...found, loading: false }));
    };
    read(client, ending.signal).then((data) => set({ data }), (error) => set({ error }));
    return () => ending.abort();
  }, [client, round, ...deps]);
  useStream(options.live, refresh, (state) => {
    if (state === "connected") refresh();
  });
  return { ...state, refresh };
}

/** Events as they happen. */
export interface Following<E> {
  /** The latest events, the newest last. */
  events: E[];
  state: StreamState;
  /** Why the stream has ended, if it has. */
  error: unknown;
}

/** Follow the events that match; `onEvent` gets each, and the last `keep` ones (100 by default) are returned. */
export function useEvents<Fleet extends FleetTypes = Untyped>(
  filter: EventFilter,
  onEvent?: (event: EventOf<Fleet["events"]>) => void,
  keep = 100,
): Following<EventOf<Fleet["events"]>> {
  const [events, setEvents] = useState<EventOf<Fleet["events"]>[]>([]);
  const [state, setState] = useState<StreamState>("connecting");
  const receive = (event: EventOf<Fleet["events"]>) => {
    setEvents((before) => [...before, event].slice(-keep));
    onEvent?.(event);
  };
  const error = useStream(filter, receive, setState);
  return { events, state, error };
}

/** The login of this page. */
export interface AuthState {
  /** The user; null while nobody is logged in, and undefined until that is known. */
  user: User | null | undefined;
  login: (body: Login) => Promise<void>;
  logout: () => Promise<void>;
}

/** Return who is logged in, with functions to log in and out. */
export function useAuth(): AuthState {
  const { auth } = useClient();
  const [user, setUser] = useState<User | null | undefined>(auth.session?.user);
  useEffect(() => {
    const stop = auth.subscribe((session: Session | null) => setUser(session?.user ?? null));
    let current = true;
    auth.me().then(
      (me) => current && setUser(me.user),
      (error) => current && error instanceof ApiError && error.status === 401 && setUser(null),
    );
    return () => {
      current = false;
      stop();
    };
  }, [auth]);
  const login = useCallback(async (body: Login) => void (await auth.login(body)), [auth]);
  const logout = useCallback(() => auth.logout(), [auth]);
  return { user, login, logout };
}

/** Follow events while the component is shown; return why the stream has ended, if it has. */
function useStream(
  filter: EventFilter | undefined,
  onEvent: (event: any) => void,
  onState: (state: StreamState) => void,
): unknown {
  const client = useClient();
  const [error, setError] = useState<unknown>();
  const latest = useRef({ onEvent, onState });
  latest.current = { onEvent, onState };
  const key = filter && JSON.stringify(filter);
  useEffect(() => {
    if (key === undefined) return undefined;
    setError(undefined);
    const stream = client.events(JSON.parse(key), { onState: (state) => latest.current.onState(state) });
    const follow = async () => {
      for await (const event of stream) latest.current.onEvent(event);
    };
    follow().catch(setError);
    return () => stream.close();
  }, [client, key]);
  return error;
}
