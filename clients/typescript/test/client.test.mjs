// The client in Node.js against a real fleet: tests/e2e/test_typescript_client.py runs this with its URL and an
// administrator's login.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { before, test } from "node:test";
import { ApiError, connect, idOf, Unreachable } from "@aidevos/client";

const { AIDEVOS_URL: url, AIDEVOS_TOKEN: token, USERNAME: username, PASSWORD: password } = process.env;
const newName = () => `n${randomBytes(6).toString("hex")}`;
const client = connect(url);

before(() => client.auth.login({ username, password }));

/** Return a `fetch` that counts requests by path, and whose answers `change` replaces. */
function counting(change = (answer) => answer) {
  const paths = [];
  const send = async (request) => {
    const path = new URL(request.url).pathname;
    paths.push(path);
    return change(await fetch(request), path, paths.filter((each) => each === path).length);
  };
  return { paths, send };
}

const refused = (code, more = {}) => new Response(JSON.stringify({ code, detail: code, ...more }), { status: more.status ?? 503 });

async function take(events, count) {
  const found = [];
  if (count) for await (const event of events) if (found.push(event) === count) break;
  return found;
}

test("methods of objects are called by name, and any name of an object will do", async () => {
  const name = newName();
  assert.equal(await client.objects.counter(name).increment({ by: 2 }), 2);
  assert.equal(await client.object("counter", name).value(), 2);

  assert.equal(await client.objects.counter(`${name} /é`).increment(), 1);
  assert.equal(await client.objects.counter(await idOf("counter", `${name} /é`)).value(), 1);
});

test("an object is no promise", async () => {
  const counter = await client.objects.counter(newName());
  assert.equal(await counter.value(), 0);
});

test("a refusal is an error that names the value", async () => {
  await assert.rejects(client.objects.counter(newName()).increment({ by: "two" }), (error) => {
    assert.ok(error instanceof ApiError);
    assert.deepEqual([error.status, error.code, error.field], [422, "invalid", "args.by"]);
    assert.ok(error.message && error.requestId);
    return !error.retryable;
  });
});

test("a call whose answer is lost is repeated and takes effect once", async () => {
  const { paths, send } = counting((answer, _, count) => {
    if (count === 1) throw new TypeError("the connection was lost");
    return count === 2 ? refused("overloaded") : answer;
  });
  const name = newName();
  assert.equal(await connect(url, { token, fetch: send }).objects.counter(name).increment(), 1);
  assert.equal(paths.length, 3);
  assert.equal(await client.objects.counter(name).value(), 1);
});

test("calls under one request ID take effect once", async () => {
  const counter = client.objects.counter(newName());
  const requestId = newName();
  assert.deepEqual(await Promise.all([1, 2].map(() => counter.increment({}, { requestId }))), [1, 1]);
});

test("a repeat that would come after the deadline is not waited for", async () => {
  const { paths, send } = counting(() => refused("unavailable", { retry_after: 60 }));
  const began = performance.now();
  await assert.rejects(connect(url, { token, fetch: send }).auth.me(), { code: "unavailable", retryAfter: 60 });
  assert.equal(paths.length, 1);
  assert.ok(performance.now() - began < 5000);
});

test("what isn't answered ends at the deadline, or with the caller's signal, also after a garbage collection", async () => {
  const silent = connect(url, { token, fetch: () => new Promise(() => {}) });
  const call = assert.rejects(silent.call("GET", "/", { deadline: 300 }), Unreachable);
  const aborted = assert.rejects(silent.call("GET", "/", { signal: AbortSignal.timeout(300) }), { name: "TimeoutError" });
  const events = assert.rejects(take(silent.events({}, { signal: AbortSignal.timeout(300) }), 1), { name: "TimeoutError" });
  for (let round = 0; round < 10; round++) {
    globalThis.gc();
    await new Promise((resume) => setTimeout(resume, 10));
  }
  await Promise.all([call, aborted, events]);
});

test("an access token that has expired is renewed once for all calls", async () => {
  const { paths, send } = counting();
  const own = connect(url, { fetch: send });
  const sessions = [];
  own.auth.subscribe((session) => sessions.push(session));
  await own.auth.login({ username, password });
  own.auth.session.access_token = "expired";
  const counter = own.objects.counter(newName());
  assert.deepEqual((await Promise.all([1, 2, 3].map(() => counter.increment()))).sort(), [1, 2, 3]);
  assert.equal(paths.filter((path) => path === "/auth/refresh").length, 1);

  // The tokens of a session open it again in another program.
  const resumed = connect(url, { session: sessions.at(-1) });
  assert.equal((await resumed.auth.me()).user.username, username);
  await resumed.auth.logout();
  await assert.rejects(own.auth.me(), { code: "unauthenticated" });
  assert.deepEqual([sessions.length, sessions.at(-1), own.auth.session], [3, null, null]);
});

test("a function is asked for another token when one is refused", async () => {
  const tokens = ["expired", token];
  assert.ok(await connect(url, { token: async () => tokens.shift() ?? token }).data.collections().page());
  await assert.rejects(connect(url, { token: () => "expired" }).projects.find().page(), { code: "unauthenticated" });
});

test("an item is made, changed under its version, found and deleted", async () => {
  const books = client.data.collection(newName());
  const made = await books.create({ title: "SICP", price: 40 }, { id: "sicp" });
  assert.deepEqual([made.id, made.version, made.data.price], ["sicp", 1, 40]);
  const put = await books.put("sicp", { title: "SICP", price: 35 }, { ifMatch: made.version });
  await assert.rejects(books.put("sicp", {}, { ifMatch: made.version }), { code: "precondition-failed" });
  await assert.rejects(books.put("sicp", {}, { create: true }), { code: "precondition-failed" });
  assert.deepEqual((await books.patch("sicp", { price: null, tags: ["new"] })).data, { title: "SICP", tags: ["new"] });
  const operations = [{ op: "add", path: "/price", value: 30 }];
  assert.equal((await books.patch("sicp", operations, { ifMatch: put.version + 1 })).data.price, 30);
  assert.deepEqual((await books.get("sicp", { fields: ["price"] })).data, { price: 30 });
  await books.delete("sicp");
  await assert.rejects(books.get("sicp"), { code: "not-found" });
});

test("all pages of a list are read, one by one", async () => {
  const books = client.data.collection(newName());
  const items = Array.from({ length: 7 }, (_, price) => ({ data: { price } }));
  assert.deepEqual((await books.createMany(items)).map((result) => result.status), Array(7).fill(201));
  const found = books.find({ filter: { price: { gte: 1 } }, sort: "-price", limit: 2, count: true });
  assert.deepEqual((await found.all()).map((book) => book.data.price), [6, 5, 4, 3, 2, 1]);
  const first = await found.page();
  assert.deepEqual([first.count, first.items.length, await books.count({ price: { lt: 3 } })], [6, 2, 3]);
  assert.equal((await found.page(first.next_cursor)).items[0].data.price, 4);
});

test("a collection has a configuration and its items a history", async () => {
  const books = client.data.collection(newName());
  await books.configure({ history: true, rules: { read: "public" } });
  assert.equal((await books.config()).history, true);
  await books.put("sicp", { price: 40 }, { create: true });
  await books.put("sicp", { price: 35 });
  assert.deepEqual((await books.history("sicp").all()).map((each) => each.version), [2, 1]);
  assert.equal((await books.restore("sicp", 1)).data.price, 40);
  assert.equal((await books.get("sicp", { version: 2 })).data.price, 35);
  assert.equal((await connect(url).data.collection(books.name).get("sicp")).data.price, 40);
  const names = (await client.data.collections({ limit: 500 }).all()).map((each) => each.name);
  assert.ok(names.includes(books.name));
  await books.drop();
});

test("a stream that breaks off resumes, and each event comes once", async () => {
  const room = newName();
  const breaking = (answer, path, count) => {
    if (path !== "/events" || count > 3) return answer;
    // The connection ends with the first event that it brings.
    const reader = answer.body.getReader();
    let text = "";
    const body = new ReadableStream({
      async pull(controller) {
        const { value } = await reader.read();
        text += new TextDecoder().decode(value);
        controller.enqueue(value);
        if (text.includes("event: chat_room.posted")) controller.error(new TypeError("cut off"));
      },
    });
    return new Response(body, answer);
  };
  const { paths, send } = counting(breaking);
  const states = [];
  const watching = connect(url, { token, fetch: send });
  const events = watching.events({ type: "chat_room", id: room }, { onState: (state) => states.push(state) });
  await events.ready;
  for (let number = 1; number <= 5; number++) await client.objects.chat_room(room).post({ text: `${number}` });
  const found = await take(events, 5);

  assert.deepEqual(found.map((event) => event.data.message.number), [1, 2, 3, 4, 5]);
  assert.ok(paths.length > 1);
  assert.deepEqual([states[0], states[1], states.at(-1)], ["connecting", "connected", "closed"]);
  assert.ok(found.every((event) => event.type === "chat_room.posted" && event.source.endsWith(`chat_room:${room}`)));
  // Another stream continues behind any event.
  const later = client.events({ type: ["chat_room"], id: [room] }, { after: found[2].position });
  assert.deepEqual((await take(later, 2)).map((event) => event.data.message.number), [4, 5]);
});

test("an event of an item carries the item if it is asked to", async () => {
  const books = client.data.collection(newName());
  const events = client.events({ collection: books.name, include: "data" });
  await events.ready;
  await books.create({ title: "SICP" });
  assert.deepEqual((await take(events, 1))[0].data.item.data, { title: "SICP" });
});

test("a gap is shown in its place", async () => {
  const events = client.events({ type: "chat_room" }, { after: "999999999999" });
  assert.deepEqual((await take(events, 1)).map((event) => event.type), ["gap"]);
});

test("closing a stream ends the reader's loop, and a refused one throws", async () => {
  const events = client.events({ type: "counter" });
  await events.ready;
  const reading = take(events, 1);
  events.close();
  assert.deepEqual(await reading, []);
  const anonymous = connect(url).events();
  await assert.rejects(anonymous.ready, { code: "unauthenticated" });
  await assert.rejects(take(anonymous, 1), { code: "unauthenticated" });
  await assert.rejects(take(client.events({ type: "No type" }), 1), { code: "invalid" });
});

test("the stream of a session that has ended throws", async () => {
  const own = connect(url);
  await own.auth.login({ username, password });
  const events = own.events({ type: "counter" });
  await events.ready;
  await own.auth.logout();
  await assert.rejects(take(events, 1), { code: "unauthenticated" });
});

test("a project has members and tasks, whose end is awaited", async () => {
  const project = await client.projects.create({ name: newName() });
  const friend = await client.auth.register({ username: newName(), email: `${newName()}@example.org`, password });
  await client.projects.setMember(project.id, friend.id, "viewer");
  assert.equal((await client.projects.members(project.id)).length, 2);
  await client.projects.removeMember(project.id, friend.id);
  assert.equal((await client.projects.patch(project.id, { description: "x" })).description, "x");
  assert.deepEqual((await client.projects.find({ q: project.name }).all()).map((each) => each.id), [project.id]);

  const collection = newName();
  await client.data.collection(collection).create({ price: 1 });
  const task = await client.tasks.create(project.id, { kind: "data.export", payload: { collection } });
  assert.equal((await client.tasks.wait(task.id)).result.count, 1);
  const idle = await client.tasks.create(project.id, { kind: "nobody.does_this" });
  assert.equal((await client.tasks.patch(idle.id, { priority: 5 })).priority, 5);
  assert.equal((await client.tasks.cancel(idle.id)).status, "cancelled");
  assert.equal((await client.tasks.wait(idle.id)).status, "cancelled");
  assert.equal((await client.tasks.retry(idle.id)).status, "queued");
  assert.deepEqual((await client.tasks.find(project.id, { status: "queued" }).all()).map((each) => each.id), [idle.id]);
  await client.tasks.delete(idle.id);
  assert.equal((await client.projects.delete(project.id)).status, "deleting");
});

test("an API key is a token", async () => {
  const { key } = await client.call("POST", "/api-keys", { body: { name: newName(), scopes: ["counter:write", "objects:request"] } });
  assert.equal(await connect(url, { token: key }).objects.counter(newName()).increment(), 1);
});

test("a URL that is none is refused at once", () => {
  assert.throws(() => connect("127.0.0.1:8080"), TypeError);
});
