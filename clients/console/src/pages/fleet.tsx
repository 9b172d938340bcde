import { api, dataOf, type Schemas } from "../api";
import { texts } from "../texts";
import { Badge, Bytes, Empty, kindOf, Page, Show, Time, useLoad } from "../ui/basics";
import { type Column, Table } from "../ui/table";
import { useEvents } from "../stream";

type Host = Schemas["HostInfo"];
const t = texts.fleet;

const COLUMNS: Column<Host>[] = [
  { title: t.service, show: (host) => `${host.service}-${host.replica}` },
  { title: t.state, show: (host) => <Badge kind={kindOf(host.state)}>{host.state}</Badge> },
  { title: t.partitions, show: (host) => <Partitions of={host.partitions} /> },
  { title: t.objects, show: (host) => host.objects },
  { title: t.memory, show: (host) => <Bytes count={host.memory} /> },
  { title: t.version, show: (host) => host.version },
  { title: t.since, show: (host) => <Time at={host.since} /> },
  { title: t.detail, show: (host) => host.detail || texts.none },
];

function Partitions({ of }: { of: Host["partitions"] }) {
  const total = Object.values(of).reduce((sum, numbers) => sum + numbers.length, 0);
  return (
    <details>
      <summary>{total}</summary>
      <ul aria-label={t.ofType}>
        {Object.entries(of).map(([type, numbers]) => (
          <li>
            {type}: {numbers.length}
          </li>
        ))}
      </ul>
    </details>
  );
}

export function Fleet() {
  const hosts = useLoad(() => dataOf(api.GET("/fleet")), []);
  // Placement changes are events; each one may concern any host.
  useEvents({ type: "fleet" }, true, hosts.reload);
  return (
    <Page title={t.title} actions={<button type="button" class="secondary" onClick={hosts.reload}>{texts.refresh}</button>}>
      <Show of={hosts}>
        {({ hosts: rows }) => (rows.length ? <Table columns={COLUMNS} rows={rows} caption={t.title} /> : <Empty>{t.empty}</Empty>)}
      </Show>
    </Page>
  );
}
