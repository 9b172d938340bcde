// A page with hooks, for tests/e2e/test_typescript_client.py: `start(client, collection)` shows it, and returns a
// function that removes it.

import { connect } from "@aidevos/client";
import { FleetProvider, useAuth, useEvents, useObject, useQuery } from "@aidevos/client/react";
import { createElement as h } from "react";
import { createRoot } from "react-dom/client";

function Page({ name }) {
  const { user, logout } = useAuth();
  const books = useQuery((client) => client.data.collection(name).find().all(), [name], { live: { collection: name } });
  const missing = useQuery((client) => client.data.collection(name).get("missing"), [name]);
  const { events, state } = useEvents({ type: "chat_room", id: name });
  const room = useObject("chat_room", name);
  return h(
    "main",
    null,
    h("p", { id: "user" }, user === undefined ? "…" : (user?.username ?? "nobody")),
    h("p", { id: "books" }, books.loading ? "…" : (books.data ?? []).map((book) => book.data.title).sort().join()),
    h("p", { id: "missing" }, missing.error?.code ?? "…"),
    h("p", { id: "state" }, state),
    h("p", { id: "texts" }, events.map((event) => event.data.message.text).join()),
    h("button", { id: "say", onClick: () => room.post({ text: "hello" }) }, "Say"),
    h("button", { id: "logout", onClick: logout }, "Log out"),
  );
}

globalThis.start = (name) => {
  document.body.innerHTML = "<div id=root></div>";
  const root = createRoot(document.getElementById("root"));
  root.render(h(FleetProvider, { client: connect() }, h(Page, { name })));
  globalThis.end = () => root.unmount();
};
