/** Lists that come in pages. */

/** One page; `next_cursor` is null on the last one. */
export interface Page<T> {
  items: T[];
  next_cursor?: string | null;
}

/** A list: iterate over it to get every item, while the pages are read one by one. */
export class Pages<T, P extends Page<T> = Page<T>> implements AsyncIterable<T> {
  /** `read` returns the page at a cursor, without one the first. */
  constructor(private readonly read: (cursor?: string) => Promise<P>) {}

  /** Return the page at the `next_cursor` of another one, by default the first. */
  page(cursor?: string): Promise<P> {
    return this.read(cursor);
  }

  /** Return all items at once. */
  async all(): Promise<T[]> {
    const found: T[] = [];
    for await (const item of this) found.push(item);
    return found;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    let cursor: string | null | undefined;
    do {
      const page = await this.read(cursor ?? undefined);
      yield* page.items;
      cursor = page.next_cursor;
    } while (cursor);
  }
}
