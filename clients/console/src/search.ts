/** The search for objects by their states, among those of one type that the API lists. */

import { call, type PageOf, type Pages, type Schemas, withQuery } from "./api";

type Row = Schemas["DurableObject"];
export type Matches = (state: unknown) => boolean;

/** The most objects that one step looks at, and the matches with which it is content. */
const PAGE = 500;
const LOOKED_AT = 2000;
const ENOUGH = 50;
const CONDITION = /^\s*([\w.-]+)\s*(=|!=|<=|>=|<|>)\s*(.*?)\s*$/;

/** Return the test of a state that a text means: `path = value`, or a text that occurs anywhere in the state. */
export function parseSearch(text: string): Matches {
  const [, path, operator, right] = CONDITION.exec(text) ?? [];
  if (path === undefined || operator === undefined || right === undefined) {
    const wanted = text.trim().toLowerCase();
    return (state) => JSON.stringify(state).toLowerCase().includes(wanted);
  }
  const wanted = valueOf(right);
  return (state) => compare(path.split(".").reduce(step, state), operator, wanted);
}

function valueOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

function step(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined;
}

function compare(found: unknown, operator: string, wanted: unknown): boolean {
  if (operator === "=" || operator === "!=") return (JSON.stringify(found) === JSON.stringify(wanted)) === (operator === "=");
  if (typeof found !== typeof wanted || !(typeof found === "number" || typeof found === "string")) return false;
  const order = found < (wanted as typeof found) ? -1 : found > (wanted as typeof found) ? 1 : 0;
  return operator.startsWith("<") ? order < 0 || (order === 0 && operator === "<=") : order > 0 || (order === 0 && operator === ">=");
}

/** Return a function that loads the objects that match, and looks at a limited number of objects each time. */
export function searchPages(path: string, filter: Record<string, string | undefined>, matches: Matches): Pages<Row> {
  return async (from) => {
    const items: Row[] = [];
    let cursor = from;
    for (let looked = 0; looked < LOOKED_AT && items.length < ENOUGH; looked += PAGE) {
      const page = await call<PageOf<Row>>("GET", withQuery(path, { ...filter, limit: String(PAGE), cursor }));
      items.push(...page.items.filter((row) => row.state !== null && matches(row.state)));
      cursor = page.next_cursor ?? undefined;
      if (cursor === undefined) break;
    }
    return { items, next_cursor: cursor ?? null };
  };
}
