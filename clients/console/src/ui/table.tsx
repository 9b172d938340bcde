/** Lists of the API as tables, page by page. */

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Pages } from "../api";
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

/** A list that loads its next page on demand, and begins anew when `keys` change. */
export function PagedTable<T>({
  load,
  keys,
  columns,
  caption,
  empty,
  onLoad,
}: {
  load: Pages<T>;
  keys: unknown[];
  columns: Column<T>[];
  caption: string;
  empty: string;
  onLoad?: (rows: T[]) => void;
}) {
  const [rows, setRows] = useState<T[]>();
  const [cursor, setCursor] = useState<string | null>();
  const [error, setError] = useState<unknown>();
  const fetchPage = (from: string | undefined, before: T[], isCurrent = () => true) =>
    load(from).then(
      (page) => {
        if (!isCurrent()) return;
        const all = [...before, ...page.items];
        setRows(all);
        setCursor(page.next_cursor ?? null);
        setError(undefined);
        onLoad?.(all);
      },
      (failure: unknown) => isCurrent() && setError(failure),
    );
  const restart = () => {
    let current = true;
    void fetchPage(undefined, [], () => current);
    return () => {
      current = false;
    };
  };
  useEffect(restart, keys);
  return (
    <>
      {error !== undefined && <Failed error={error} onRetry={() => void restart()} />}
      {rows === undefined && error === undefined && <Loading />}
      {rows?.length === 0 && <Empty>{empty}</Empty>}
      {rows && rows.length > 0 && <Table columns={columns} rows={rows} caption={caption} />}
      {cursor && (
        <button type="button" class="secondary more" onClick={() => void fetchPage(cursor, rows ?? [])}>
          {texts.more}
        </button>
      )}
    </>
  );
}
