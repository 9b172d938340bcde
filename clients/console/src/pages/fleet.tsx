import { call, type Schemas } from "../api";
import { may } from "../session";
import { type Figures, useChanges, useFigures } from "../stream";
import { texts } from "../texts";
import { Badge, Bytes, Empty, kindOf, Page, Show, Time, useLoad } from "../ui/basics";
import { type Column, Table } from "../ui/table";
import { objectUrl } from "./objects";

type Host = Schemas["HostInfo"];
const t = texts.fleet;

const COLUMNS: Column<Host>[] = [
  { title: t.service, show: nameOf },
  { title: t.state, show: (host) => <Badge kind={kindOf(host.state)}>{host.state}</Badge> },
  { title: t.partitions, show: (host) => <Partitions of={host.partitions} /> },
  { title: t.objects, show: (host) => host.objects },
  { title: t.memory, show: (host) => <Bytes count={host.memory} /> },
  { title: t.version, show: (host) => host.version },
  { title: t.since, show: (host) => <Time at={host.since} /> },
  { title: t.detail, show: (host) => host.detail || texts.none },
];

function nameOf(host: Host): string {
  return `${host.service}-${host.replica}`;
}

function withLoad(host: Host, load: Schemas["ProcessLoad"] | undefined): Host {
  return load ? { ...host, objects: load.objects, memory: load.memory } : host;
}

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
  const hosts = useLoad(() => call<Schemas["FleetHosts"]>("GET", "/fleet"), []);
  const { latest } = useFigures();
  // Placement changes are events; each one may concern any host.
  useChanges({ type: "fleet" }, may("events:read"), hosts.reload);
  const load = new Map(latest?.processes.map((process) => [process.process, process]));
  return (
    <Page title={t.title} actions={<button type="button" class="secondary" onClick={hosts.reload}>{texts.refresh}</button>}>
      <Show of={hosts}>
        {({ hosts: rows }) =>
          rows.length ? (
            <Table columns={COLUMNS} rows={rows.map((host) => withLoad(host, load.get(nameOf(host))))} caption={t.title} />
          ) : (
            <Empty>{t.empty}</Empty>
          )
        }
      </Show>
      <section>
        <h2>{t.busiest}</h2>
        <Busiest of={latest} />
      </section>
    </Page>
  );
}

type Busy = Figures["busiest"][number];
const BUSY: Column<Busy>[] = [
  { title: texts.objects.id, show: ({ object_id }) => <a href={objectUrl(object_id)}>{object_id}</a> },
  { title: t.turns, show: ({ turns }) => (turns < 10 ? turns.toFixed(1) : Math.round(turns)) },
];

/** The objects with the most turns now, as the figures of the fleet show them. */
export function Busiest({ of: figures }: { of: Figures | undefined }) {
  if (!figures) return <Empty>{t.waiting}</Empty>;
  const { busiest } = figures;
  return busiest.length ? <Table columns={BUSY} rows={busiest} caption={t.busiest} /> : <Empty>{t.noBusiest}</Empty>;
}
