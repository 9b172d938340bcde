/** JSON values as a tree, and the differences of two of them. */

import { texts } from "../texts";
import { Empty } from "./basics";

const OPEN_UP_TO = 3;

/** A value as a tree that folds. Every name and value is text, whatever it holds. */
export function JsonTree({ value, depth = 0, name }: { value: unknown; depth?: number; name?: string }) {
  const label = name === undefined ? null : <span class="key">{name}: </span>;
  if (value === null || typeof value !== "object")
    return (
      <div class="leaf">
        {label}
        <span class={`value ${value === null ? "null" : typeof value}`}>{JSON.stringify(value)}</span>
      </div>
    );
  const entries = Object.entries(value);
  const size = Array.isArray(value) ? `[${entries.length}]` : `{${entries.length}}`;
  if (entries.length === 0)
    return (
      <div class="leaf">
        {label}
        {Array.isArray(value) ? "[]" : "{}"}
      </div>
    );
  return (
    <details class="tree" open={depth < OPEN_UP_TO}>
      <summary>
        {label}
        <span class="size">{size}</span>
      </summary>
      {entries.map(([key, inner]) => (
        <JsonTree key={key} name={key} value={inner} depth={depth + 1} />
      ))}
    </details>
  );
}

export interface Change {
  path: string;
  before: unknown;
  after: unknown;
}

/** Return what differs between two values, by JSON pointer. */
export function differences(before: unknown, after: unknown, path = ""): Change[] {
  if (isObject(before) && isObject(after)) {
    const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
    return keys.flatMap((key) => differences(before[key], after[key], `${path}/${key.replace(/~/g, "~0").replace(/\//g, "~1")}`));
  }
  return JSON.stringify(before) === JSON.stringify(after) ? [] : [{ path: path || "/", before, after }];
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function Differences({ before, after }: { before: unknown; after: unknown }) {
  const changes = differences(before, after);
  if (changes.length === 0) return <Empty>{texts.differences.none}</Empty>;
  return (
    <table class="differences">
      <thead>
        <tr>
          <th scope="col">{texts.differences.path}</th>
          <th scope="col">{texts.differences.before}</th>
          <th scope="col">{texts.differences.after}</th>
        </tr>
      </thead>
      <tbody>
        {changes.map((change) => (
          <tr>
            <th scope="row">{change.path}</th>
            <td>
              <del>{show(change.before)}</del>
            </td>
            <td>
              <ins>{show(change.after)}</ins>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function show(value: unknown): string {
  return value === undefined ? texts.none : JSON.stringify(value);
}
