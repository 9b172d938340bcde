/** Dialogs: questions before anything is lost, and notes with an undo. */

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
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

export function Modal({ title, onClose, children }: { title: string; onClose: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog ref={dialog} aria-labelledby="dialog-title" onClose={onClose}>
      <article>
        <header>
          <button type="button" class="close" aria-label={texts.close} onClick={() => dialog.current?.close()} />
          <h2 id="dialog-title">{title}</h2>
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
