/** Small parts that every page uses. */

import type { ComponentChildren } from "preact";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { Problem } from "../api";
import { texts } from "../texts";

export function Page({ title, actions, children }: { title: string; actions?: ComponentChildren; children: ComponentChildren }) {
  useEffect(() => {
    document.title = `${title} · ${texts.product}`;
  }, [title]);
  return (
    <>
      <header class="page">
        <h1>{title}</h1>
        <div class="actions">{actions}</div>
      </header>
      {children}
    </>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

/** What went wrong, in the API's own words. */
export function Failed({ error, onRetry }: { error: unknown; onRetry?: (() => void) | undefined }) {
  return (
    <div role="alert" class="failed">
      <p>{describe(error)}</p>
      {onRetry && (
        <button type="button" class="secondary" onClick={onRetry}>
          {texts.retry}
        </button>
      )}
    </div>
  );
}

export function describe(error: unknown): string {
  if (error instanceof Problem) return error.field ? `${error.field}: ${error.message}` : error.message;
  return error instanceof Error ? error.message : String(error);
}

export function Loading() {
  return <p aria-busy="true">{texts.loading}</p>;
}

/** A moment in the reader's own time zone; the exact one is in the tooltip. */
export function Time({ at }: { at: string | null | undefined }) {
  if (!at) return <>{texts.none}</>;
  const moment = new Date(at);
  return (
    <time dateTime={at} title={at}>
      {Number.isNaN(moment.valueOf()) ? at : moment.toLocaleString()}
    </time>
  );
}

export function Badge({ kind, children }: { kind?: "good" | "bad" | "busy" | ""; children: ComponentChildren }) {
  return <span class={`badge ${kind ?? ""}`}>{children}</span>;
}

/** The kind of badge that suits a state of a host, task, user, delivery … */
export function kindOf(state: string): "good" | "bad" | "busy" | "" {
  if (["serving", "active", "succeeded", "delivered", "success"].includes(state)) return "good";
  if (["unhealthy", "failed", "dead", "deactivated", "failure", "refused"].includes(state)) return "bad";
  return ["running", "queued", "draining", "pending", "retrying"].includes(state) ? "busy" : "";
}

export interface Loaded<T> {
  data?: T;
  error?: unknown;
  reload: () => void;
}

/** Load something when the page opens, and again when `keys` change or `reload` is called. */
export function useLoad<T>(load: () => Promise<T>, keys: unknown[]): Loaded<T> {
  const [state, setState] = useState<{ data?: T; error?: unknown }>({});
  const run = useRef(0);
  const reload = useCallback(() => {
    const number = ++run.current;
    load().then(
      (data) => number === run.current && setState({ data }),
      (error: unknown) => number === run.current && setState((before) => ({ ...before, error })),
    );
  }, keys);
  useEffect(() => {
    reload();
    return () => {
      run.current++;
    };
  }, [reload]);
  return { ...state, reload };
}

/** Show what is loaded, or that it is loading, or why it failed. */
export function Show<T>({ of, children }: { of: Loaded<T>; children: (data: T) => ComponentChildren }) {
  return (
    <>
      {of.error !== undefined && <Failed error={of.error} onRetry={of.reload} />}
      {of.data !== undefined ? children(of.data) : of.error === undefined && <Loading />}
    </>
  );
}

/** A button that runs something once at a time, and shows why it failed. */
export function Action({
  run,
  label,
  kind = "secondary",
  disabled = false,
}: {
  run: () => Promise<unknown>;
  label: string;
  kind?: string;
  disabled?: boolean;
}) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const start = () => {
    setBusy(true);
    setError(undefined);
    run()
      .catch(setError)
      .finally(() => setBusy(false));
  };
  return (
    <>
      <button type="button" class={kind} disabled={busy || disabled} aria-busy={busy} onClick={start}>
        {label}
      </button>
      {error !== undefined && <Failed error={error} />}
    </>
  );
}

export function Copy({ text }: { text: string }) {
  const [done, setDone] = useState(false);
  const copy = () => navigator.clipboard.writeText(text).then(() => setDone(true));
  return (
    <div class="copy">
      <code>{text}</code>
      {/* Browsers give pages the clipboard only over HTTPS and from this machine. */}
      {isSecureContext && (
        <button type="button" class="secondary" onClick={copy}>
          {done ? texts.copied : texts.copy}
        </button>
      )}
    </div>
  );
}

export function Bytes({ count }: { count: number }) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  for (; count >= 1000 && power < units.length - 1; power++) count /= 1000;
  return <>{`${power ? count.toFixed(1) : count} ${units[power]}`}</>;
}
