import { useLocation } from "preact-iso";
import { call, type Schemas } from "../api";
import { texts } from "../texts";
import { Badge, kindOf, Page, Time } from "../ui/basics";
import { Filters } from "../ui/fields";
import { type Column, PagedTable } from "../ui/table";
import { queryOf } from "../ui/values";

type Entry = Schemas["AuditEntry"];
const t = texts.audit;

function Party({ id }: { id: string }) {
  return id.includes(":") || !id ? <>{id || texts.none}</> : <a href={`/console/users/${encodeURIComponent(id)}`}>{id}</a>;
}

const COLUMNS: Column<Entry>[] = [
  { title: t.at, show: (entry) => <Time at={entry.at} /> },
  { title: t.action, show: (entry) => entry.action },
  { title: t.outcome, show: (entry) => <Badge kind={kindOf(entry.outcome)}>{entry.outcome}</Badge> },
  { title: t.actor, show: (entry) => <Party id={entry.actor} /> },
  { title: t.target, show: (entry) => entry.target || texts.none },
  { title: texts.users.address, show: (entry) => entry.address || texts.none },
  { title: texts.letters.reason, show: (entry) => entry.reason || texts.none },
];

export function Audit() {
  const { query, route } = useLocation();
  const names = ["action", "actor", "target", "outcome"];
  const filter = Object.fromEntries(names.flatMap((name) => (query[name] ? [[name, query[name]]] : [])));
  const load = (cursor?: string) =>
    call<{ items: Entry[] }>("GET", `/audit?${new URLSearchParams({ ...filter, ...(cursor ? { cursor } : {}) })}`);
  return (
    <Page title={t.title}>
      <Filters
        onChange={(values) => route(`/console/audit?${new URLSearchParams(queryOf(values))}`)}
        fields={[
          { name: "action", label: t.action, hint: t.actionHint, value: query.action ?? "" },
          { name: "actor", label: t.actor, value: query.actor ?? "" },
          { name: "target", label: t.target, value: query.target ?? "" },
          { name: "outcome", label: t.outcome, type: "select", options: ["", "success", "failure"], value: query.outcome ?? "" },
        ]}
      />
      <PagedTable load={load} keys={[JSON.stringify(filter)]} columns={COLUMNS} caption={t.title} empty={t.empty} />
    </Page>
  );
}
