import { useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { pagesOf, type Schemas, withQuery } from "../api";
import { texts } from "../texts";
import { Badge, Failed, kindOf, Page, Time } from "../ui/basics";
import { Filters } from "../ui/fields";
import { type Column, PagedTable } from "../ui/table";
import { findUser, UserName } from "../ui/people";
import { localOf, queryOf } from "../ui/values";

type Entry = Schemas["AuditEntry"];
const t = texts.audit;

const OF_USERS = /^(user|login|logout|mfa|password|session|auth)\b/;

/** What an action was about: a user by name, or the ID of something else. */
function Target({ of: { action, target } }: { of: Entry }) {
  if (OF_USERS.test(action)) return <UserName id={target} />;
  return action.startsWith("project.") ? <a href={`/console/projects/${encodeURIComponent(target)}`}>{target}</a> : <span>{target || texts.none}</span>;
}

const COLUMNS: Column<Entry>[] = [
  { title: t.at, show: (entry) => <Time at={entry.at} /> },
  { title: t.action, show: (entry) => entry.action },
  { title: t.outcome, show: (entry) => <Badge kind={kindOf(entry.outcome)}>{entry.outcome}</Badge> },
  { title: t.actor, show: (entry) => <UserName id={entry.actor} /> },
  { title: t.target, show: (entry) => <Target of={entry} /> },
  { title: texts.users.address, show: (entry) => entry.address || texts.none },
  { title: texts.letters.reason, show: (entry) => entry.reason || texts.none },
];

export function Audit() {
  const { query, route } = useLocation();
  const names = ["action", "actor", "target", "outcome", "from", "to"];
  const filter = Object.fromEntries(names.flatMap((name) => (query[name] ? [[name, query[name]]] : [])));
  const [error, setError] = useState<unknown>();
  const apply = async (values: FormData) => {
    const { actor = "", target = "", ...rest } = queryOf(values);
    const [by, on] = await Promise.all([findUser(actor), findUser(target)]);
    for (const name of ["from", "to"]) if (rest[name]) rest[name] = new Date(rest[name]).toISOString();
    route(withQuery("/console/audit", { ...rest, actor: by, target: on }));
  };
  return (
    <Page title={t.title}>
      {error !== undefined && <Failed error={error} />}
      <Filters
        onChange={(values) => void apply(values).then(setError.bind(null, undefined), setError)}
        fields={[
          { name: "action", label: t.action, hint: t.actionHint, value: query.action ?? "" },
          { name: "actor", label: t.actor, value: query.actor ?? "" },
          { name: "target", label: t.target, value: query.target ?? "" },
          { name: "outcome", label: t.outcome, type: "select", options: ["", "success", "failure"], value: query.outcome ?? "" },
          { name: "from", label: t.from, type: "datetime-local", value: localOf(query.from) },
          { name: "to", label: t.to, type: "datetime-local", value: localOf(query.to) },
        ]}
      />
      <PagedTable load={pagesOf<Entry>("/audit", filter)} keys={[JSON.stringify(filter)]} columns={COLUMNS} caption={t.title} empty={t.empty} />
    </Page>
  );
}
