import { call } from "../api";
import { texts } from "../texts";
import { Page, Show, useLoad } from "../ui/basics";
import { type Column, Table } from "../ui/table";

interface Setting {
  variable: string;
  value: unknown;
  origin: string;
}

const t = texts.settings;
const COLUMNS: Column<Setting>[] = [
  { title: t.name, show: (setting) => <code class="name">{setting.variable}</code> },
  { title: t.value, show: (setting) => <code>{String(setting.value ?? "") || texts.none}</code> },
  { title: t.origin, show: (setting) => setting.origin },
];

export function Settings() {
  const found = useLoad(() => call<{ settings: Setting[] }>("GET", "/fleet/settings"), []);
  return (
    <Page title={t.title}>
      <Show of={found}>{({ settings }) => <Table columns={COLUMNS} rows={settings} caption={t.title} />}</Show>
    </Page>
  );
}
