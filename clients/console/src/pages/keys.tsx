import { useState } from "preact/hooks";
import { call, pagesOf, type Schemas } from "../api";
import { texts } from "../texts";
import { Action, Copy, Page, Time } from "../ui/basics";
import { may } from "../session";
import { ask, Modal } from "../ui/dialogs";
import { Form } from "../ui/fields";
import { type Column, PagedTable } from "../ui/table";
import { UserName } from "../ui/people";
import { textOf, wordsOf } from "../ui/values";

type Key = Schemas["APIKey"];
const t = texts.keys;

/** Return the key that was described in the form. */
function keyOf(values: FormData) {
  const [expires, rate] = [textOf(values, "expires_at"), textOf(values, "rate")];
  return {
    name: textOf(values, "name"),
    scopes: wordsOf(values, "scopes"),
    allowed_addresses: wordsOf(values, "addresses"),
    ...(rate ? { limits: { rate: Number(rate), window: Number(textOf(values, "window") || 1) } } : {}),
    ...(expires ? { expires_at: new Date(expires).toISOString() } : {}),
  };
}

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
    show(await call("POST", "/api-keys", keyOf(values)));
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
    { title: t.hint, show: (key) => key.hint },
    { title: t.scopes, show: (key) => key.scopes.join(", ") },
    { title: t.limit, show: ({ limits }) => (limits ? t.limited(limits.rate, limits.window ?? 1) : texts.none) },
    { title: t.owner, show: (key) => <UserName id={key.owner} /> },
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
  return (
    <Page title={t.title} actions={<button type="button" onClick={() => setCreates(true)}>{t.new}</button>}>
      <PagedTable load={pagesOf<Key>("/api-keys")} keys={[]} turn={turn} columns={columns} caption={t.title} empty={t.empty} />
      {may("tokens:manage") && <Tokens />}
      {creates && (
        <Modal title={t.new} onClose={() => setCreates(false)}>
          <Form
            submit={texts.create}
            onSubmit={create}
            onCancel={() => setCreates(false)}
            fields={[
              { name: "name", label: t.name, required: true },
              { name: "scopes", label: t.scopes, hint: t.scopesHint, type: "textarea", rows: 3, required: true },
              { name: "rate", label: t.rate, type: "number" },
              { name: "window", label: t.window, type: "number", value: "60" },
              { name: "addresses", label: t.addresses },
              { name: "expires_at", label: t.expires, type: "datetime-local" },
            ]}
          />
        </Modal>
      )}
      {shown && (
        <Modal title={t.secret} onClose={() => setShown("")}>
          <Copy text={shown} />
          <p>{t.tryIt}</p>
          <Copy text={`curl ${location.origin}/auth/me -H "X-Api-Key: ${shown}"`} />
        </Modal>
      )}
    </Page>
  );
}

type Token = Schemas["AccessToken"];

/** The tokens that `aidevos token` has made. */
function Tokens() {
  const [turn, setTurn] = useState(0);
  const revoke = (token: Token) => call("DELETE", `/access-tokens/${token.id}`).then(() => setTurn((before) => before + 1));
  const columns: Column<Token>[] = [
    { title: t.subject, show: (token) => <UserName id={token.subject} /> },
    { title: texts.users.roles, show: (token) => token.roles.join(", ") },
    { title: t.scopes, show: (token) => token.permissions.join(", ") },
    { title: t.expires, show: (token) => <Time at={token.expires_at} /> },
    { title: texts.actions, show: (token) => <Action label={t.revoke} run={() => revoke(token)} /> },
  ];
  return (
    <section aria-label={t.tokens}>
      <h2>{t.tokens}</h2>
      <PagedTable load={pagesOf<Token>("/access-tokens")} keys={[]} turn={turn} columns={columns} caption={t.tokens} empty={t.tokensEmpty} />
    </section>
  );
}
