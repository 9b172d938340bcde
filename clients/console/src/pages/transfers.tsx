/** Import and export of a collection's items, one JSON document per line, with progress. */

import { useRef, useState } from "preact/hooks";
import { problemOf, request, type Schemas } from "../api";
import { texts } from "../texts";
import { Failed } from "../ui/basics";
import { Modal, tell } from "../ui/dialogs";

const t = texts.data;
/** Lines of a file that are sent at once. */
const LINES = 200;

interface Progress {
  done: number;
  /** Undefined while it is unknown. */
  all: number | undefined;
  refused: string[];
}

function Shown({ title, progress, error, onClose }: { title: string; progress: Progress; error: unknown; onClose: () => void }) {
  return (
    <Modal title={title} onClose={onClose}>
      <p role="status">{progress.all === undefined ? t.exported(progress.done) : t.transferred(progress.done, progress.all)}</p>
      <progress aria-label={title} max={progress.all ?? 1} value={progress.all === undefined ? undefined : progress.done} />
      {error !== undefined && <Failed error={error} />}
      {progress.refused.length > 0 && (
        <>
          <p>{t.refused(progress.refused.length)}</p>
          <ul class="hits">
            {progress.refused.slice(0, 100).map((reason) => (
              <li>{reason}</li>
            ))}
          </ul>
        </>
      )}
    </Modal>
  );
}

/** Sends the lines of a file, some at a time, and lists what was refused. */
export function Import({ path, onDone }: { path: string; onDone: () => void }) {
  const [progress, setProgress] = useState<Progress>();
  const [error, setError] = useState<unknown>();
  const input = useRef<HTMLInputElement>(null);
  const stopped = useRef(false);
  const send = async (file: File | undefined) => {
    if (!file) return;
    const lines = (await file.text()).split("\n").filter((line) => line.trim());
    stopped.current = false;
    setError(undefined);
    const refused: string[] = [];
    for (let done = 0; done < lines.length && !stopped.current; done += LINES) {
      setProgress({ done, all: lines.length, refused: [...refused] });
      refused.push(...(await importLines(path, lines.slice(done, done + LINES), done)));
    }
    onDone();
    if (stopped.current) return;
    setProgress(refused.length ? { done: lines.length, all: lines.length, refused } : undefined);
    tell(t.imported(lines.length - refused.length, refused.length));
  };
  const close = () => {
    stopped.current = true;
    setProgress(undefined);
  };
  const choose = (field: HTMLInputElement) => {
    const file = field.files?.[0];
    send(file).catch(setError).finally(() => {
      field.value = "";
    });
  };
  return (
    <>
      <button type="button" class="secondary" onClick={() => input.current?.click()}>
        {t.importFile}
      </button>
      <input ref={input} type="file" hidden aria-label={t.importFile} accept=".ndjson,.jsonl" onChange={(event) => choose(event.currentTarget)} />
      {progress && <Shown title={t.importFile} progress={progress} error={error} onClose={close} />}
    </>
  );
}

/** Import lines, and return why some were refused, each with its number in the file. */
async function importLines(path: string, lines: string[], before: number): Promise<string[]> {
  const headers = { "Content-Type": "application/x-ndjson" };
  const response = await request(`${path}/import`, { method: "POST", body: lines.join("\n"), headers });
  if (!response.ok) throw await problemOf(response);
  const results = (await response.text()).split("\n").filter(Boolean).map((line) => JSON.parse(line) as Schemas["BulkResult"]);
  return results.flatMap((result, index) => (result.status < 300 ? [] : [t.lineRefused(before + index + 1, reasonOf(result))]));
}

function reasonOf(result: Schemas["BulkResult"]): string {
  const problem = (result as { problem?: { detail?: string; field?: string } }).problem;
  return [problem?.field, problem?.detail].filter(Boolean).join(": ") || String(result.status);
}

/** Saves all items in a file. */
export function Export({ path, name }: { path: string; name: string }) {
  const [progress, setProgress] = useState<Progress>();
  const [error, setError] = useState<unknown>();
  const abort = useRef<AbortController | undefined>(undefined);
  const start = async () => {
    setError(undefined);
    setProgress({ done: 0, all: undefined, refused: [] });
    abort.current = new AbortController();
    const show = (done: number) => setProgress({ done, all: undefined, refused: [] });
    try {
      save(await exportLines(path, abort.current.signal, show), `${name}.ndjson`);
      setProgress(undefined);
    } catch (failure) {
      if (!abort.current.signal.aborted) setError(failure);
    }
  };
  const close = () => {
    abort.current?.abort();
    setProgress(undefined);
  };
  return (
    <>
      <button type="button" class="secondary" onClick={() => void start()}>
        {t.exportFile}
      </button>
      {progress && <Shown title={t.exportFile} progress={progress} error={error} onClose={close} />}
    </>
  );
}

async function exportLines(path: string, signal: AbortSignal, onProgress: (lines: number) => void): Promise<Blob> {
  const response = await request(`${path}/export`, { signal });
  if (!response.ok || !response.body) throw await problemOf(response);
  const reader = response.body.getReader();
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let lines = 0;
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    chunks.push(chunk.value);
    for (const byte of chunk.value) if (byte === 10) lines++;
    onProgress(lines);
  }
  return new Blob(chunks, { type: "application/x-ndjson" });
}

function save(content: Blob, name: string) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
