// What users write, as far as the compiler is concerned: `npm run check` fails if a line is refused, or isn't where
// `@ts-expect-error` says that it should be. `fleet.ts` is what `aidevos types --typescript` writes.

import { connect, type Item } from "../src/index.js";
import { useEvents, useObject, useQuery } from "../src/react.js";
import type { Fleet } from "./fleet.js";

interface Book {
  title: string;
  price: number;
  tags?: string[];
}

export async function objects(): Promise<number> {
  const client = connect<Fleet>("http://127.0.0.1:8080");
  const counter = client.objects.counter("clicks");
  await counter.increment();
  const value: number = await counter.increment({ by: 2 }, { deadline: 1000 });
  const posted: string = (await client.object("chat_room", "lobby").post({ text: "hello" })).author;
  // @ts-expect-error a wrong argument
  await counter.increment({ by: "2" });
  // @ts-expect-error a missing argument
  await client.objects.chat_room("lobby").post();
  // @ts-expect-error an unknown method
  await counter.decrement();
  // @ts-expect-error an unknown type
  client.objects.nothing("clicks");
  return value + posted.length;
}

export async function untyped(): Promise<string> {
  const client = connect("http://127.0.0.1:8080");
  await client.objects.anything("clicks").whatever({ by: 2 });
  for await (const event of client.events({ type: ["anything"] })) return event.type;
  return client.data.collection("books").name;
}

export async function data(): Promise<Item<Book> | undefined> {
  const books = connect("http://127.0.0.1:8080").data.collection<Book>("books");
  const filter = { price: { gte: 10 }, or: [{ title: { starts_with: "S" } }, { tags: { contains: "new" } }] };
  for await (const book of books.find({ filter, sort: "-price" })) return book;
  await books.patch("sicp", { price: 3, tags: null });
  await books.patch("sicp", [{ op: "remove", path: "/tags" }]);
  // @ts-expect-error a wrong type
  await books.put("sicp", { title: "SICP", price: "3" });
  // @ts-expect-error an unknown field
  books.find({ filter: { prize: { gte: 10 } } });
  return (await books.find({ count: true }).page()).items[0];
}

export async function typedData(): Promise<string> {
  const item = await connect<Fleet>("http://127.0.0.1:8080").data.collection("films").get("dune");
  // @ts-expect-error an unknown field
  void item.data.rating;
  return item.data.title;
}

export async function events(): Promise<unknown> {
  for await (const event of connect<Fleet>("http://127.0.0.1:8080").events()) {
    if (event.type === "chat_room.posted") return event.data.message.number.toFixed();
    if (event.type === "item.created") return event.data.collection.length;
    if (event.type === "gap") return event.data.reason.length;
    if (event.type === "task.succeeded") return event.data;
    // @ts-expect-error an unknown event
    if (event.type === "chat_room.closed") return undefined;
  }
  return undefined;
}

export function useHooks(): number {
  const counter = useObject<Fleet, "counter">("counter", "clicks");
  void counter.increment({ by: 2 });
  const { data } = useQuery((client, signal) => client.data.collection<Book>("books").get("sicp", { signal }), []);
  const { events } = useEvents<Fleet>({ type: "chat_room" }, (event) => event.position);
  return (data?.data.price ?? 0) + events.length;
}
