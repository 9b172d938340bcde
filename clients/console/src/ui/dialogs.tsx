/** Dialogs: questions before anything is lost, and notes with an undo. */

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { texts } from "../texts";
import { Failed } from "./basics";

interface Question {
  text: string;
  label: string;
  run: () => Promise<unknown>;
}

interface Note {
  text: string;
  undo?: (() => Promise<unknown>) | undefined;
}

const question = signal<Question | undefined>(undefined);
const note = signal<Note | undefined>(undefined);
const NOTE_FOR = 10_000;
let timer = 0;

/** Ask before something is lost; then run it. */
export function ask(text: string, label: string, run: () => Promise<unknown>) {
  question.value = { text, label, run };
}

/** Say what has happened, for ten seconds, with a way back if there is one. */
export function tell(text: string, undo?: () => Promise<unknown>) {
  window.clearTimeout(timer);
  note.value = { text, undo };
  timer = window.setTimeout(() => {
    note.value = undefined;
  }, NOTE_FOR);
}

/** Give the focus back to the element that had it or, if that is gone, to the page. */
function giveBack(before: Element | null) {
  const target = before?.isConnected ? before : document.getElementById("content");
  if (target instanceof HTMLElement) target.focus();
}

export function Modal({ title, onClose, children }: { title: string; onClose: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    dialog.current?.showModal();
    dialog.current?.querySelector<HTMLElement>("form :is(input, select, textarea)")?.focus();
    return () => giveBack(before);
  }, []);
  /** Ask before Escape loses a text that was changed. */
  const keep = (event: Event) => {
    const fields = [...(dialog.current?.querySelectorAll("textarea") ?? [])];
    if (event.target !== dialog.current || fields.every((field) => field.value === field.defaultValue)) return;
    event.preventDefault();
    ask(texts.discard, texts.close, async () => onClose());
  };
  return (
    <dialog ref={dialog} aria-labelledby={id} onCancel={keep} onClose={onClose}>
      <article>
        <header>
          <button type="button" class="close" aria-label={texts.close} onClick={() => dialog.current?.close()} />
          <h2 id={id}>{title}</h2>
        </header>
        {children}
      </article>
    </dialog>
  );
}

function Asked({ asked }: { asked: Question }) {
  const [error, setError] = useState<unknown>();
  const close = () => {
    question.value = undefined;
  };
  return (
    <Modal title={texts.confirm.title} onClose={close}>
      <p>{asked.text}</p>
      {error !== undefined && <Failed error={error} />}
      <footer>
        <button type="button" class="secondary" onClick={close}>
          {texts.cancel}
        </button>
        <button type="button" class="danger" onClick={() => asked.run().then(close, setError)}>
          {asked.label}
        </button>
      </footer>
    </Modal>
  );
}

export function Dialogs() {
  const undo = note.value?.undo;
  const takeBack = () => {
    note.value = undefined;
    undo?.().catch((error: unknown) => tell(String(error)));
  };
  return (
    <>
      {question.value && <Asked asked={question.value} />}
      <div class="note" role="status">
        {note.value && (
          <p>
            {note.value.text}
            {undo && (
              <button type="button" onClick={takeBack}>
                {texts.undo}
              </button>
            )}
          </p>
        )}
      </div>
    </>
  );
}
