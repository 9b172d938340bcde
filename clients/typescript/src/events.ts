/**
 * Live events: server-sent events over `fetch`, which takes headers and shows refusals.
 *
 * Promise: the reader gets every event that it may see, each once, in the stream's order. After an interruption the
 * stream resumes behind the last event. Where events are no longer kept, the reader gets a `gap` in their place.
 */

import { ApiError, errorOf, Unreachable } from "./errors.js";
import { type HttpApi, pauseAfter } from "./http.js";
import { Patience, sleep } from "./patience.js";
import type { components } from "./schema.js";

/** Which events to follow; a list admits any of its values. */
export interface EventFilter {
  /** Types of objects; `item` for the items of collections. */
  type?: string | string[] | undefined;
  /** Collections, whose items' events are meant. */
  collection?: string | string[] | undefined;
  /** IDs of objects or items. */
  id?: string | string[] | undefined;
  /** Names of events, such as `created`. */
  name?: string | string[] | undefined;
  /** Events of items carry the item, as far as there is still one, in `data.item`. */
  include?: "data" | undefined;
}

/** An event of the type `Type` with this data: a CloudEvent 1.0. */
export interface FleetEvent<Type extends string = string, Data = any> {
  id: string;
  /** `<type of the object>.<name>`. */
  type: Type;
  /** `/durable-objects/<type>:<id>` of the object that emitted it. */
  source: string;
  /** When it happened, in RFC 3339. */
  time: string;
  data: Data;
  /** The project of an object that belongs to one. */
  project?: string;
  /** The place in the stream behind this event, from which `after` resumes. */
  position: string;
}

/** Some events are missing here, because they are no longer kept: read again what you show. */
export interface Gap {
  type: "gap";
  data: { reason: string; detail: string };
  position: string;
}

interface ItemChange {
  id: string;
  collection: string;
  version: number;
  item?: components["schemas"]["Item"];
}

interface ItemEvents {
  "item.created": ItemChange;
  "item.updated": ItemChange;
  "item.deleted": ItemChange;
}

/** The services' own types of objects. */
type Services = "api_key" | "dead_letter" | "fleet" | "project" | "rate_limits" | "role" | "route" | "session" | "task" | "user" | "webhook";

type Each<Types> = { [T in keyof Types & string]: FleetEvent<T, Types[T]> }[keyof Types & string];

/** What a stream yields, by a map from the types of events to their data. */
export type EventOf<Types> = 0 extends 1 & Types
  ? FleetEvent | Gap
  : Each<Types> | Each<ItemEvents> | FleetEvent<`${Services}.${string}`> | Gap;

export type StreamState = "connecting" | "connected" | "closed";

export interface StreamOptions {
  /** Ends the stream, whose reader gets the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Resume behind the event with this `position`. */
  after?: string | undefined;
  /** Called whenever the stream is connected or has lost its connection. */
  onState?: ((state: StreamState) => void) | undefined;
}

// The gateway sends something every 15 seconds.
const SILENCE = 40_000;
const RESUMABLE = new Set(["draining", "slow", "unavailable", "restarted"]);

/** Events as they happen. Reading connects; `break` in a loop closes the stream. */
export class EventStream<E = EventOf<any>> implements AsyncIterableIterator<E> {
  /** Settled once the stream is connected: later events are in it. Rejected if it can't be. */
  readonly ready: Promise<void>;
  /** The place behind the last event that was read. */
  position: string | undefined;
  private readonly patience: Patience;
  private isClosed = false;
  private readonly found: AsyncGenerator<E, void, undefined>;
  private first: Promise<IteratorResult<E, void>> | undefined;
  private opened!: () => void;
  private retry = 1_000;
  private state: StreamState | undefined;

  constructor(
    private readonly api: HttpApi,
    private readonly filter: EventFilter = {},
    private readonly options: StreamOptions = {},
  ) {
    this.position = options.after;
    this.patience = new Patience(options.signal);
    this.found = this.follow();
    this.first = this.found.next();
    const connected = new Promise<void>((resolve) => {
      this.opened = resolve;
    });
    this.ready = Promise.race([connected, this.first.then(() => undefined)]);
    // A reader that doesn't look at `ready` gets the error when it reads.
    this.ready.catch(() => {});
  }

  next(): Promise<IteratorResult<E, void>> {
    const first = this.first;
    this.first = undefined;
    return first ?? this.found.next();
  }

  return(): Promise<IteratorResult<E, void>> {
    this.isClosed = true;
    this.patience.end();
    return this.found.return(undefined);
  }

  /** End the stream: the reader's loop ends. */
  close(): void {
    void this.return().catch(() => {});
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  private async *follow(): AsyncGenerator<E, void, undefined> {
    const { signal } = this.patience;
    let failures = 0;
    try {
      for (;;) {
        try {
          for await (const event of this.connect()) {
            failures = 0;
            if (event) yield event;
          }
        } catch (error) {
          if (signal.aborted || pauseAfter(error, 0) === undefined) throw error;
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
  private async *connect(): AsyncGenerator<E | undefined, void, undefined> {
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

  private read(frame: Frame): E | undefined {
    if (!frame.event) return undefined;
    const data = JSON.parse(frame.data);
    const position = this.position ?? "";
    if (frame.event === "gap") return { type: "gap", data, position } as E;
    if (frame.event !== "end") return { ...data, position } as E;
    // After `unauthenticated`, the next request renews the credential or is refused.
    if (RESUMABLE.has(data.reason) || data.reason === "unauthenticated") return undefined;
    throw new ApiError({ code: data.reason, status: 403, detail: data.detail });
  }

  private enter(state: StreamState): void {
    if (state === this.state) return;
    this.state = state;
    this.options.onState?.(state);
  }
}

interface Frame {
  event: string;
  data: string;
  id: string;
  retry: string;
}

/** Yield the frames of a body of server-sent events (WHATWG HTML §9.2), and an empty one with each piece of it. */
async function* frames(body: ReadableStream<Uint8Array>, patience: Patience): AsyncGenerator<Frame, void, undefined> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let lines: string[] = [];
  try {
    for (;;) {
      patience.within(SILENCE);
      const { done, value } = await patience.of(reader.read());
      // How long the reader takes is its own affair.
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
    // Not awaited: what is on its way need not arrive.
    reader.cancel().catch(() => {});
  }
}

function frameOf(lines: string[]): Frame {
  const frame: Frame = { event: "", data: "", id: "", retry: "" };
  const data: string[] = [];
  for (const line of lines) {
    const [, name = "", value = ""] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (name === "data") data.push(value);
    else if (name === "event" || name === "id" || name === "retry") frame[name] = value;
  }
  frame.data = data.join("\n");
  return frame;
}
