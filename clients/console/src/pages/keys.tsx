import { useState } from "preact/hooks";
import { call, type Schemas } from "../api";
import { texts } from "../texts";
import { Copy, Page, Time } from "../ui/basics";
import { ask, Modal } from "../ui/dialogs";
import { Form } from "../ui/fields";
import { type Column, PagedTable } from "../ui/table";
import { textOf, wordsOf } from "../ui/values";

type Key = Schemas["APIKey"];
const t = texts.keys;

/** The caller's API keys, or with `keys:manage` everybody's. */
export function ApiKeys() {
  const [turn, setTurn] = useState(0);
  const [creates, setCreates] = useState(false);
  const [shown, setShown] = useState("");
  const show = (made: Schemas["NewApiKey"]) => {
    setCreates(false);
    setShown(made.key);
    setTurn((before) => before + 1);
  };
  const create = async (values: FormData) => {
    const expires = textOf(values, "expires_at");
    const body = { name: textOf(values, "name"), scopes: wordsOf(values, "scopes") };
    show(await call("POST", "/api-keys", expires ? { ...body, expires_at: new Date(expires).toISOString() } : body));
  };
  const revoke = (key: Key) =>
    ask(t.revokeWarning(key.name), t.revoke, async () => {
      await call("DELETE", `/api-keys/${key.id}`);
      setTurn((before) => before + 1);
    });
  const rotate = (key: Key) =>
    ask(t.rotateWarning(key.name), t.rotate, async () => show(await call("POST", `/api-keys/${key.id}/rotate`)));
  const columns: Column<Key>[] = [
    { title: t.name, show: (key) => key.name },
    { title: t.hint, show: (key) => <code>{key.hint}</code> },
    { title: t.scopes, show: (key) => key.scopes.join(", ") },
    { title: t.owner, show: (key) => key.owner },
    { title: t.expires, show: (key) => <Time at={key.expires_at} /> },
    { title: t.lastUsed, show: (key) => <Time at={key.last_used_at} /> },
    {
      title: texts.actions,
      show: (key) => (
        <div class="actions">
          <button type="button" class="secondary" onClick={() => rotate(key)}>
            {t.rotate}
          </button>
          <button type="button" class="danger" onClick={() => revoke(key)}>
            {t.revoke}
          </button>
        </div>
      ),
    },
  ];
  const load = (cursor?: string) => call<{ items: Key[] }>("GET", `/api-keys${cursor ? `?cursor=${encodeURIComponent(cursor)}` : ""}`);
  return (
    <Page title={t.title} actions={<button type="button" onClick={() => setCreates(true)}>{t.new}</button>}>
      <PagedTable load={load} keys={[turn]} columns={columns} caption={t.title} empty={t.empty} />
      {creates && (
        <Modal title={t.new} onClose={() => setCreates(false)}>
          <Form
            submit={texts.create}
            onSubmit={create}
            onCancel={() => setCreates(false)}
            fields={[
              { name: "name", label: t.name, required: true },
              { name: "scopes", label: t.scopes, type: "textarea", rows: 3, required: true },
              { name: "expires_at", label: t.expires, type: "datetime-local" },
            ]}
          />
        </Modal>
      )}
      {shown && (
        <Modal title={t.secret} onClose={() => setShown("")}>
          <Copy text={shown} />
        </Modal>
      )}
    </Page>
  );
}
