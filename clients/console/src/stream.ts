/** Events and figures of the fleet as they happen, over server-sent events. */

import { createParser, type EventSourceMessage } from "eventsource-parser";
import { useEffect, useRef, useState } from "preact/hooks";
import { problemOf, request, type Schemas, withQuery } from "./api";
import { texts } from "./texts";

/** A CloudEvent 1.0, as `GET /events` sends it. */
export interface LiveEvent {
  id: string;
  type: string;
  source: string;
  subject?: string;
  time: string;
  data: unknown;
  project?: string;
}

export interface Following {
  events: LiveEvent[];
  note: string;
  clear: () => void;
}

export type Figures = Schemas["FleetFigures"];

const KEPT = 200;
const PAUSE = 2000;
/** Reasons after which the stream goes on where it stopped; the next request renews an ended access token. */
const RESUMABLE = new Set(["draining", "slow", "unavailable", "restarted", "unauthenticated"]);

/** Reads one stream after another, from where the last one ended, until it is closed. */
class Follower {
  private readonly abort = new AbortController();

  constructor(
    private readonly path: string,
    private readonly place: { position: string },
    private readonly onMessage: (message: EventSourceMessage) => void,
    private readonly onNote: (text: string) => void,
  ) {}

  close() {
    this.abort.abort();
  }

  async run() {
    while (!this.abort.signal.aborted && (await this.follow().catch(() => true))) {
      await new Promise((resume) => setTimeout(resume, PAUSE));
    }
  }

  /** Follow one stream to its end; return true if it can be resumed. */
  private async follow(): Promise<boolean> {
    const headers: Record<string, string> = this.place.position ? { "Last-Event-ID": this.place.position } : {};
    const response = await request(this.path, { headers, signal: this.abort.signal });
    if (!response.ok || !response.body) {
      this.onNote((await problemOf(response)).message);
      return response.status >= 500 || response.status === 429;
    }
    this.onNote("");
    let resumable = true;
    const parser = createParser({
      onEvent: (message) => {
        if (message.id) this.place.position = message.id;
        if (message.event === "end") resumable = this.end(message.data);
        else if (message.event === "gap") this.onNote(texts.events.gap);
        else if (message.event) this.onMessage(message);
      },
    });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) parser.feed(chunk.value);
    return resumable;
  }

  private end(data: string): boolean {
    const { reason = "" } = JSON.parse(data) as { reason?: string };
    if (RESUMABLE.has(reason)) return true;
    this.onNote(texts.events.ended(reason));
    return false;
  }
}

/**
 * Follow a stream while `on` is true and the page is shown, and return a note about it. A browser has six connections to
 * a host, so pages in the background must not hold any. What they missed comes when they are shown again.
 */
function useStream(path: string, on: boolean, onMessage: (message: EventSourceMessage) => void): string {
  const [note, setNote] = useState("");
  const latest = useRef(onMessage);
  latest.current = onMessage;
  useEffect(() => {
    if (!on) return undefined;
    setNote("");
    const place = { position: "" };
    let follower: Follower | undefined;
    const stop = () => {
      follower?.close();
      follower = undefined;
    };
    const look = () => {
      if (document.visibilityState !== "visible") return stop();
      if (follower) return;
      follower = new Follower(path, place, (message) => latest.current(message), setNote);
      void follower.run();
    };
    look();
    document.addEventListener("visibilitychange", look);
    // A page that the browser keeps for its Back button is hidden too.
    window.addEventListener("pagehide", stop);
    window.addEventListener("pageshow", look);
    return () => {
      document.removeEventListener("visibilitychange", look);
      window.removeEventListener("pagehide", stop);
      window.removeEventListener("pageshow", look);
      stop();
    };
  }, [path, on]);
  return note;
}

/** Follow the events that match the filter while `on` is true; the latest come first. */
export function useEvents(filter: Record<string, string>, on = true, onEvent?: (event: LiveEvent) => void): Following {
  const [events, setEvents] = useState<LiveEvent[]>([]);
  const note = useStream(withQuery("/events", filter), on, ({ data }) => {
    const event = JSON.parse(data) as LiveEvent;
    setEvents((before) => [event, ...before].slice(0, KEPT));
    onEvent?.(event);
  });
  return { events, note, clear: () => setEvents([]) };
}

/** Call `onChange` soon after events that match the filter, however many they are. */
export function useChanges(filter: Record<string, string>, on: boolean, onChange: () => void) {
  const latest = useRef(onChange);
  latest.current = onChange;
  const timer = useRef(0);
  useEffect(() => () => window.clearTimeout(timer.current), []);
  useStream(withQuery("/events", filter), on, () => {
    timer.current ||= window.setTimeout(() => {
      timer.current = 0;
      latest.current();
    }, SETTLES);
  });
}

const SETTLES = 1000;
const SAMPLES = 180;
/** The samples of this visit, which outlive the page that shows them. */
let samples: Figures[] = [];

/** Follow the figures of the fleet while `on` is true; return the latest samples, and a note about the stream. */
export function useFigures(on = true): { history: Figures[]; latest: Figures | undefined; note: string } {
  const [history, setHistory] = useState(samples);
  const note = useStream("/fleet/live", on, ({ data }) => {
    samples = [...samples, JSON.parse(data) as Figures].slice(-SAMPLES);
    setHistory(samples);
  });
  return { history, latest: history.at(-1), note };
}
