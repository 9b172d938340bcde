import { useState } from "preact/hooks";
import { call, ifMatch, MERGE_PATCH, pagesOf, type Schemas } from "../api";
import { texts } from "../texts";
import { Action, Copy, Page, Time } from "../ui/basics";
import { may, me } from "../session";
import { ask, Modal } from "../ui/dialogs";
import { Form } from "../ui/fields";
import { type Column, PagedTable } from "../ui/table";
import { UserName } from "../ui/people";
import { localOf, textOf, wordsOf } from "../ui/values";

type Key = Schemas["APIKey"];
const t = texts.keys;

/** Return the fields of a key that was described in the form. */
function keyOf(values: FormData, before?: Key) {
  const [expires, rate] = [textOf(values, "expires_at"), textOf(values, "rate")];
  return {
    name: textOf(values, "name"),
    scopes: wordsOf(values, "scopes"),
    allowed_addresses: wordsOf(values, "addresses"),
    limits: rate ? { rate: Number(rate), window: Number(textOf(values, "window") || 1) } : null,
    // The field has no seconds, so a moment that nobody has changed is left out.
    ...(expires === localOf(before?.expires_at) ? {} : { expires_at: expires ? new Date(expires).toISOString() : null }),
  };
}

/** The caller's API keys, or with `keys:manage` everybody's. */
export function ApiKeys() {
  const [turn, setTurn] = useState(0);
  const [edited, setEdited] = useState<Key | "new">();
  const [rotated, setRotated] = useState<Key>();
  const [shown, setShown] = useState("");
  const reload = () => setTurn((before) => before + 1);
  const close = () => setEdited(undefined);
  const show = (made: Schemas["NewApiKey"]) => {
    setShown(made.key);
    reload();
  };
  const save = async (values: FormData) => {
    if (edited === "new") show(await call("POST", "/api-keys", keyOf(values)));
    else if (edited) await call("PATCH", `/api-keys/${edited.id}`, keyOf(values, edited), { ...MERGE_PATCH, ...ifMatch(edited) });
    close();
    reload();
  };
  const revoke = (key: Key) =>
    ask(t.revokeWarning(key.name), t.revoke, async () => {
      await call("DELETE", `/api-keys/${key.id}`);
      reload();
    });
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
          <button type="button" class="secondary" onClick={() => setEdited(key)}>
            {texts.edit}
          </button>
          {key.owner === me.value?.user.id && (
            <button type="button" class="secondary" onClick={() => setRotated(key)}>
              {t.rotate}
            </button>
          )}
          <button type="button" class="danger" onClick={() => revoke(key)}>
            {t.revoke}
          </button>
        </div>
      ),
    },
  ];
  return (
    <Page title={t.title} actions={<button type="button" onClick={() => setEdited("new")}>{t.new}</button>}>
      <PagedTable load={pagesOf<Key>("/api-keys")} keys={[]} turn={turn} columns={columns} caption={t.title} empty={t.empty} />
      {may("tokens:manage") && <Tokens />}
      {edited && <KeyForm of={edited === "new" ? undefined : edited} onSave={save} onClose={close} />}
      {rotated && <Rotation of={rotated} onDone={show} onClose={() => setRotated(undefined)} />}
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

function KeyForm({ of: key, onSave, onClose }: { of: Key | undefined; onSave: (values: FormData) => Promise<void>; onClose: () => void }) {
  return (
    <Modal title={key?.name ?? t.new} onClose={onClose}>
      <Form
        submit={key ? texts.save : texts.create}
        onSubmit={onSave}
        onCancel={onClose}
        fields={[
          { name: "name", label: t.name, required: true, value: key?.name ?? "" },
          { name: "scopes", label: t.scopes, hint: t.scopesHint, type: "textarea", rows: 3, required: true, value: key?.scopes.join(", ") ?? "" },
          { name: "rate", label: t.rate, type: "number", value: String(key?.limits?.rate ?? "") },
          { name: "window", label: t.window, type: "number", step: "any", value: String(key?.limits?.window ?? 60) },
          { name: "addresses", label: t.addresses, value: key?.allowed_addresses.join(", ") ?? "" },
          { name: "expires_at", label: t.expires, type: "datetime-local", value: localOf(key?.expires_at) },
        ]}
      />
    </Modal>
  );
}

/** Replace a key by a new one, while the old one works for some time. */
function Rotation({ of: key, onDone, onClose }: { of: Key; onDone: (made: Schemas["NewApiKey"]) => void; onClose: () => void }) {
  const rotate = async (values: FormData) => {
    const made = await call<Schemas["NewApiKey"]>("POST", `/api-keys/${key.id}/rotate`, { overlap: Number(textOf(values, "overlap")) });
    onClose();
    onDone(made);
  };
  return (
    <Modal title={t.rotate} onClose={onClose}>
      <p>{t.rotateWarning(key.name)}</p>
      <Form
        submit={t.rotate}
        onSubmit={rotate}
        onCancel={onClose}
        fields={[{ name: "overlap", label: t.overlap, type: "number", step: "any", required: true, value: "0" }]}
      />
    </Modal>
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
