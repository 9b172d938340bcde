import { useState } from "preact/hooks";
import { useLocation, useRoute } from "preact-iso";
import { call, type Schemas } from "../api";
import { may } from "../session";
import { texts } from "../texts";
import { Action, Badge, Empty, kindOf, Page, Show, Time, useLoad } from "../ui/basics";
import { ask } from "../ui/dialogs";
import { Filters, Form } from "../ui/fields";
import { type Column, PagedTable, Table } from "../ui/table";
import { queryOf, textOf, wordsOf } from "../ui/values";

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
  const filter = Object.fromEntries(["q", "role", "status"].flatMap((name) => (query[name] ? [[name, query[name]]] : [])));
  const load = (cursor?: string) =>
    call<{ items: User[] }>("GET", `/users?${new URLSearchParams({ ...filter, ...(cursor ? { cursor } : {}) })}`);
  return (
    <Page title={t.title}>
      <Filters
        onChange={(values) => route(`/console/users?${new URLSearchParams(queryOf(values))}`)}
        fields={[
          { name: "q", label: t.query, value: query.q ?? "" },
          { name: "role", label: t.roles, value: query.role ?? "" },
          { name: "status", label: t.status, type: "select", options: ["", "active", "deactivated"], value: query.status ?? "" },
        ]}
      />
      <PagedTable load={load} keys={[JSON.stringify(filter)]} columns={COLUMNS} caption={t.title} empty={t.empty} />
    </Page>
  );
}

export function UserPage() {
  const { params } = useRoute();
  const { route } = useLocation();
  const path = `/users/${encodeURIComponent(params.user ?? "")}`;
  const user = useLoad(() => call<User>("GET", path), [path]);
  const save = async (values: FormData) => {
    const body = { full_name: textOf(values, "full_name"), roles: wordsOf(values, "roles") };
    const headers = { "Content-Type": "application/merge-patch+json", "If-Match": `"${user.data?.version}"` };
    await call("PATCH", path, body, headers);
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
              fields={[
                { name: "full_name", label: t.fullName, value: data.full_name },
                { name: "roles", label: `${t.roles} (a, b)`, value: data.roles.join(", ") },
              ]}
            />
            <h2>{t.sessions}</h2>
            <Sessions path={`${path}/sessions`} />
          </>
        )}
      </Show>
    </Page>
  );
}

/** Open sessions, each with a way to end it. */
export function Sessions({ path }: { path: string }) {
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
      {({ items }) => (items.length ? <Table columns={columns} rows={items} caption={t.sessions} /> : <Empty>{t.noSessions}</Empty>)}
    </Show>
  );
}
