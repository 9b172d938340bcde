/** The values of a form, as text, JSON, words or query parameters. */

export function textOf(values: FormData, name: string): string {
  return String(values.get(name) ?? "").trim();
}

export function jsonOf(values: FormData, name: string): unknown {
  const text = textOf(values, name);
  return text === "" ? undefined : JSON.parse(text);
}

/** The words of a list that was typed with commas or spaces between them. */
export function wordsOf(values: FormData, name: string): string[] {
  return textOf(values, name).split(/[\s,]+/).filter(Boolean);
}

/** The filled-in values as query parameters. */
export function queryOf(values: FormData): Record<string, string> {
  const filled = [...values.entries()].map(([name, value]) => [name, String(value).trim()] as const);
  return Object.fromEntries(filled.filter(([, value]) => value !== ""));
}

/** Return a moment as a field of the type `datetime-local` takes it. */
export function localOf(moment: string | null | undefined): string {
  if (!moment) return "";
  const local = new Date(moment);
  return new Date(local.valueOf() - local.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
