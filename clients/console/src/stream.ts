/** Events of the fleet as they happen, over server-sent events. */

import { createParser } from "eventsource-parser";
import { useEffect, useRef, useState } from "preact/hooks";
import { problemOf, request } from "./api";
import { texts } from "./texts";

/** A CloudEvent 1.0, as `GET /events` sends it. */
export interface LiveEvent {
  id: string;
  type: string;
  source: string;
  subject?: string;
  time: string;
  data: unknown;
}

export interface Following {
  events: LiveEvent[];
  note: string;
  clear: () => void;
}

const KEPT = 200;
const PAUSE = 2000;
/** Reasons after which the stream goes on where it stopped. */
const RESUMABLE = new Set(["draining", "slow", "unavailable", "restarted"]);

/** Reads one stream after another, from where the last one ended, until it is closed. */
class Follower {
  private readonly abort = new AbortController();
  private position = "";

  constructor(
    private readonly query: string,
    private readonly onEvent: (event: LiveEvent) => void,
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
    const headers: Record<string, string> = this.position ? { "Last-Event-ID": this.position } : {};
    const url = new URL(`/events?${this.query}`, location.origin);
    const response = await request(new Request(url, { headers, signal: this.abort.signal }));
    if (!response.ok || !response.body) {
      this.onNote((await problemOf(response)).message);
      return response.status >= 500 || response.status === 429;
    }
    let resumable = true;
    const parser = createParser({
      onEvent: ({ id, event, data }) => {
        if (id) this.position = id;
        if (event === "end") resumable = this.end(data);
        else if (event === "gap") this.onNote(texts.events.gap);
        else if (event) this.onEvent(JSON.parse(data) as LiveEvent);
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

/** Follow the events that match the filter while `on` is true; the latest come first. */
export function useEvents(filter: Record<string, string>, on = true, onEvent?: (event: LiveEvent) => void): Following {
  const [events, setEvents] = useState<LiveEvent[]>([]);
  const [note, setNote] = useState("");
  const latest = useRef(onEvent);
  latest.current = onEvent;
  const query = new URLSearchParams(filter).toString();
  useEffect(() => {
    if (!on) return undefined;
    setNote("");
    const receive = (event: LiveEvent) => {
      setEvents((before) => [event, ...before].slice(0, KEPT));
      latest.current?.(event);
    };
    const follower = new Follower(query, receive, setNote);
    void follower.run();
    return () => follower.close();
  }, [query, on]);
  return { events, note, clear: () => setEvents([]) };
}
