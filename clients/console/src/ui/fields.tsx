/** Labelled inputs, and a form that sends what was entered. */

import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";
import { Problem } from "../api";
import { texts } from "../texts";
import { describe, Failed } from "./basics";

export interface FieldProps {
  name: string;
  label: string;
  type?: string;
  value?: string;
  hint?: string;
  required?: boolean;
  rows?: number;
  /** The multiples that a number may have; `any` for fractions. */
  step?: string;
  autocomplete?: string;
  options?: readonly string[];
  /** What a choice shows for the empty option. */
  empty?: string;
  checked?: boolean;
  placeholder?: string | undefined;
}

/** One labelled input, chosen by `type`: a text, `json`, `select`, `checkbox`, or any type of HTML. */
export function Field({ name, label, type = "text", value = "", hint, options = [], empty = texts.any, rows, checked, ...rest }: FieldProps) {
  const id = useId();
  const described = hint ? { "aria-describedby": `${id}-hint` } : {};
  const shared = { id, name, ...described, ...rest };
  if (type === "checkbox")
    return (
      <label htmlFor={id}>
        <input {...shared} type="checkbox" defaultChecked={checked} /> {label}
      </label>
    );
  return (
    <div class="field">
      <label htmlFor={id}>{label}</label>
      {type === "json" || type === "textarea" ? (
        <textarea {...shared} rows={rows ?? 6} defaultValue={value} spellcheck={false} class={type} />
      ) : type === "select" ? (
        <select {...shared} defaultValue={value}>
          {options.map((option) => (
            <option value={option} selected={option === value}>
              {option || empty}
            </option>
          ))}
        </select>
      ) : (
        <input {...shared} type={type as "text"} defaultValue={value} />
      )}
      {hint && <small id={`${id}-hint`}>{hint}</small>}
    </div>
  );
}

/** A form that calls `onSubmit` with its values, keeps what was typed if it fails, and shows why. */
export function Form({
  onSubmit,
  submit,
  kind,
  children,
  fields = [],
  onCancel,
}: {
  onSubmit: (values: FormData) => Promise<unknown>;
  submit: string;
  /** "danger" for what can't be undone. */
  kind?: "danger";
  children?: ComponentChildren;
  fields?: FieldProps[];
  onCancel?: () => void;
}) {
  const [error, setError] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const send = (event: SubmitEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    onSubmit(new FormData(event.currentTarget as HTMLFormElement))
      .catch(setError)
      .finally(() => setBusy(false));
  };
  return (
    <form onSubmit={send}>
      {fields.map((field) => (
        <Field key={field.name} {...field} />
      ))}
      {children}
      {error !== undefined && <Failed error={explain(error)} />}
      <footer>
        {onCancel && (
          <button type="button" class="secondary" onClick={onCancel}>
            {texts.cancel}
          </button>
        )}
        <button type="submit" class={kind} disabled={busy} aria-busy={busy}>
          {submit}
        </button>
      </footer>
    </form>
  );
}

function explain(error: unknown): unknown {
  if (error instanceof Problem && error.code === "precondition-failed") return new Error(texts.data.conflict);
  return error instanceof SyntaxError ? new Error(texts.data.invalidJson(describe(error))) : error;
}

/** A line of filters that apply as soon as one of them has changed. */
export function Filters({ fields, onChange }: { fields: FieldProps[]; onChange: (values: FormData) => void }) {
  const apply = (event: Event) => {
    event.preventDefault();
    onChange(new FormData(event.currentTarget as HTMLFormElement));
  };
  return (
    <form class="filters" onSubmit={apply} onChange={apply}>
      {fields.map(({ hint, ...field }) => (
        <Field key={field.name} {...field} placeholder={hint} />
      ))}
      <button type="submit" class="secondary">
        {texts.search}
      </button>
    </form>
  );
}
