import { useState } from "preact/hooks";
import { useLocation, useRoute } from "preact-iso";
import { call, ifMatch, MERGE_PATCH, type PageOf, pagesOf, type Schemas } from "../api";
import { may } from "../session";
import { texts } from "../texts";
import { Action, Badge, Empty, kindOf, Page, Show, Time, useLoad } from "../ui/basics";
import { ask, Modal, tell } from "../ui/dialogs";
import { Field, Filters, Form } from "../ui/fields";
import { JsonTree } from "../ui/json";
import { type Column, PagedTable, Table } from "../ui/table";
import { queryOf, textOf } from "../ui/values";

type User = Schemas["User"];
type Session = Schemas["Session"];
const t = texts.users;

const COLUMNS: Column<User>[] = [
  { title: t.username, show: (user) => <a href={`/console/users/${user.id}`}>{user.username}</a> },
  { title: t.fullName, show: (user) => user.full_name || texts.none },
  { title: t.email, show: (user) => user.email ?? texts.none },
  { title: t.roles, show: (user) => user.roles.join(", ") },
  { title: t.status, show: (user) => <Badge kind={kindOf(user.status)}>{user.status}</Badge> },
  { title: t.created, show: (user) => <Time at={user.created_at} /> },
];

export function Users() {
  const { query, route } = useLocation();
  const [creates, setCreates] = useState(false);
  const filter = Object.fromEntries(["q", "role", "status"].flatMap((name) => (query[name] ? [[name, query[name]]] : [])));
  return (
    <Page title={t.title} actions={may("users:manage") && <button type="button" onClick={() => setCreates(true)}>{t.new}</button>}>
      <Filters
        onChange={(values) => route(`/console/users?${new URLSearchParams(queryOf(values))}`)}
        fields={[
          { name: "q", label: t.query, value: query.q ?? "" },
          { name: "role", label: texts.projects.role, value: query.role ?? "" },
          { name: "status", label: t.status, type: "select", options: ["", "active", "deactivated"], value: query.status ?? "" },
        ]}
      />
      <PagedTable load={pagesOf<User>("/users", filter)} keys={[JSON.stringify(filter)]} columns={COLUMNS} caption={t.title} empty={t.empty} />
      {creates && <NewUser onClose={() => setCreates(false)} />}
    </Page>
  );
}

/** A user with the role of every registered user; the user's own page gives others. */
function NewUser({ onClose }: { onClose: () => void }) {
  const { route } = useLocation();
  const create = async (values: FormData) => {
    const password = String(values.get("password"));
    const about = { username: textOf(values, "username"), email: textOf(values, "email"), full_name: textOf(values, "full_name") };
    const made = await call<User>("POST", "/users", { ...about, roles: ["user"], ...(password ? { password } : {}) });
    onClose();
    route(`/console/users/${made.id}`);
  };
  return (
    <Modal title={t.new} onClose={onClose}>
      <Form
        submit={texts.create}
        onSubmit={create}
        onCancel={onClose}
        fields={[
          { name: "username", label: t.username, required: true, autocomplete: "off" },
          { name: "email", label: t.email, type: "email", required: true, autocomplete: "off" },
          { name: "full_name", label: t.fullName },
          { name: "password", label: t.password, type: "password", hint: t.passwordHint, autocomplete: "new-password" },
        ]}
      />
    </Modal>
  );
}

export function UserPage() {
  const { params } = useRoute();
  const { route } = useLocation();
  const path = `/users/${encodeURIComponent(params.user ?? "")}`;
  const user = useLoad(() => call<User>("GET", path), [path]);
  const save = async (values: FormData) => {
    const body = { full_name: textOf(values, "full_name"), roles: rolesOf(values) };
    await call("PATCH", path, body, { ...MERGE_PATCH, ...ifMatch(user.data) });
    tell(texts.account.saved);
    user.reload();
  };
  const change = (verb: string) => call("POST", `${path}/${verb}`).then(user.reload);
  const erase = () => call("DELETE", path).then(() => route("/console/users"));
  return (
    <Page
      title={user.data?.username ?? t.title}
      actions={
        user.data &&
        may("users:manage") && (
          <>
            {user.data.status === "active" ? (
              <button type="button" class="danger" onClick={() => ask(t.deactivateWarning(user.data?.username ?? ""), t.deactivate, () => change("deactivate"))}>
                {t.deactivate}
              </button>
            ) : (
              <Action label={t.activate} run={() => change("activate")} />
            )}
            <button type="button" class="danger" onClick={() => ask(t.eraseWarning(user.data?.username ?? ""), t.erase, erase)}>
              {t.erase}
            </button>
          </>
        )
      }
    >
      <Show of={user}>
        {(data) => (
          <>
            <p>
              <Badge kind={kindOf(data.status)}>{data.status}</Badge> {data.email}
            </p>
            <Form
              key={data.version}
              submit={texts.save}
              onSubmit={save}
              fields={[{ name: "full_name", label: t.fullName, value: data.full_name }]}
            >
              <RolePicker of={data.roles} />
            </Form>
            <section aria-label={t.sessions}>
              <h2>{t.sessions}</h2>
              <Sessions path={`${path}/sessions`} endAll />
            </section>
            <section aria-label={t.settings}>
              <h2>{t.settings}</h2>
              <JsonTree value={data.settings} />
            </section>
          </>
        )}
      </Show>
    </Page>
  );
}

/** The role that no user can have. */
const OF_SERVICES = "service";

/** The user's roles, of those that there are; by name for those who may not list them. */
function RolePicker({ of: given }: { of: string[] }) {
  const roles = useLoad(async () => (may("roles:manage") ? (await call<PageOf<Schemas["Role"]>>("GET", "/roles?limit=200")).items : []), []);
  if (!roles.data?.length) return <Field name="roles" label={`${t.roles} (a, b)`} value={given.join(", ")} />;
  return (
    <fieldset>
      <legend>{t.roles}</legend>
      {roles.data.filter(({ name }) => name !== OF_SERVICES).map((role) => (
        <label>
          <input type="checkbox" name="roles" value={role.name} defaultChecked={given.includes(role.name)} /> {role.name}
          {role.description && <span class="muted"> – {role.description}</span>}
        </label>
      ))}
    </fieldset>
  );
}

/** Return the roles that were picked, or entered with commas between them. */
function rolesOf(values: FormData): string[] {
  return values.getAll("roles").flatMap((value) => String(value).split(/[\s,]+/).filter(Boolean));
}

/** Open sessions, each with a way to end it. */
export function Sessions({ path, endAll = false }: { path: string; endAll?: boolean }) {
  const sessions = useLoad(() => call<Schemas["SessionPage"]>("GET", path), [path]);
  const columns: Column<Session>[] = [
    { title: t.device, show: (session) => session.device || texts.none },
    { title: t.address, show: (session) => session.address || texts.none },
    { title: t.created, show: (session) => <Time at={session.created_at} /> },
    { title: t.lastUsed, show: (session) => <Time at={session.last_used_at} /> },
    {
      title: texts.actions,
      show: (session) =>
        session.current ? (
          t.current
        ) : (
          <Action label={t.endSession} run={() => call("DELETE", `${path}/${session.id}`).then(sessions.reload)} />
        ),
    },
  ];
  return (
    <Show of={sessions}>
      {({ items }) =>
        items.length ? (
          <>
            <Table columns={columns} rows={items} caption={t.sessions} />
            {endAll && <Action label={t.endAll} run={() => call("DELETE", path).then(sessions.reload)} />}
          </>
        ) : (
          <Empty>{t.noSessions}</Empty>
        )
      }
    </Show>
  );
}
