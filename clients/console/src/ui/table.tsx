/** Lists of the API as tables, page by page. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { PageOf, Pages } from "../api";
import { texts } from "../texts";
import { Empty, Failed, Loading } from "./basics";

export interface Column<T> {
  title: string;
  show: (row: T) => ComponentChildren;
}

export function Table<T>({ columns, rows, caption }: { columns: Column<T>[]; rows: T[]; caption: string }) {
  return (
    <div class="table" tabIndex={0} role="group" aria-label={caption}>
      <table>
        <thead>
          <tr>
            {columns.map((column) => (
              <th scope="col">{column.title}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr>
              {columns.map((column) => (
                <td data-title={column.title}>{column.show(row)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Load the first pages of a list as one page. */
async function loadPages<T>(load: Pages<T>, count: number): Promise<PageOf<T>> {
  let page = await load();
  for (let loaded = 1; loaded < count && page.next_cursor; loaded++) {
    const next = await load(page.next_cursor);
    page = { ...next, items: [...page.items, ...next.items] };
  }
  return page;
}

/** A list that loads its next page on demand. It begins anew when `keys` change, and is renewed when `turn` changes. */
export function PagedTable<T>({
  load,
  keys,
  turn,
  columns,
  caption,
  empty,
  onLoad,
}: {
  load: Pages<T>;
  keys: unknown[];
  turn?: unknown;
  columns: Column<T>[];
  caption: string;
  empty: string;
  onLoad?: (rows: T[]) => void;
}) {
  const [rows, setRows] = useState<T[]>();
  const [cursor, setCursor] = useState<string | null>();
  const [error, setError] = useState<unknown>();
  const seen = useRef({ keys: "", pages: 1 });
  const show = (page: PageOf<T>, before: T[]) => {
    const all = [...before, ...page.items];
    setRows(all);
    setCursor(page.next_cursor ?? null);
    setError(undefined);
    onLoad?.(all);
  };
  const begin = () => {
    let current = true;
    const now = JSON.stringify(keys);
    // A list that is renewed keeps its length.
    const pages = now === seen.current.keys ? seen.current.pages : 1;
    seen.current = { keys: now, pages };
    loadPages(load, pages).then(
      (page) => current && show(page, []),
      (failure: unknown) => current && setError(failure),
    );
    return () => {
      current = false;
    };
  };
  const more = (from: string) => {
    seen.current.pages++;
    load(from).then((page) => show(page, rows ?? []), setError);
  };
  useEffect(begin, [...keys, turn]);
  return (
    <>
      {error !== undefined && <Failed error={error} onRetry={() => void begin()} />}
      {rows === undefined && error === undefined && <Loading />}
      {rows?.length === 0 && <Empty>{empty}</Empty>}
      {rows && rows.length > 0 && <Table columns={columns} rows={rows} caption={caption} />}
      {cursor && (
        <button type="button" class="secondary more" onClick={() => more(cursor)}>
          {texts.more}
        </button>
      )}
    </>
  );
}
