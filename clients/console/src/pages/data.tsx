import { useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { call, type Schemas } from "../api";
import { texts } from "../texts";
import { Page, Time } from "../ui/basics";
import { Modal } from "../ui/dialogs";
import { Field, Form } from "../ui/fields";
import { type Column, PagedTable } from "../ui/table";
import { jsonOf, textOf } from "../ui/values";

type Entry = Schemas["CollectionEntry"];
const t = texts.data;

export function collectionUrl(name: string): string {
  return `/console/data/${encodeURIComponent(name)}`;
}

const COLUMNS: Column<Entry>[] = [
  { title: t.name, show: (entry) => <a href={collectionUrl(entry.name)}>{entry.name}</a> },
  { title: t.count, show: (entry) => entry.count },
  { title: t.owner, show: (entry) => entry.owner },
  { title: t.updated, show: (entry) => <Time at={entry.updated_at} /> },
];

export function Data() {
  const { route } = useLocation();
  const [creates, setCreates] = useState(false);
  const load = (cursor?: string) =>
    call<{ items: Entry[] }>("GET", `/data/collections${cursor ? `?cursor=${encodeURIComponent(cursor)}` : ""}`);
  const create = async (values: FormData) => {
    const name = textOf(values, "name");
    const config = jsonOf(values, "config") ?? {};
    await call("PUT", `/data/collections/${encodeURIComponent(name)}`, config, { "If-None-Match": "*" });
    route(collectionUrl(name));
  };
  return (
    <Page title={t.title} actions={<button type="button" onClick={() => setCreates(true)}>{t.newCollection}</button>}>
      <PagedTable load={load} keys={[]} columns={COLUMNS} caption={t.title} empty={t.empty} />
      {creates && (
        <Modal title={t.newCollection} onClose={() => setCreates(false)}>
          <Form submit={texts.create} onSubmit={create} onCancel={() => setCreates(false)}>
            <Field name="name" label={t.name} required />
            <Field name="config" label={t.configuration} type="json" hint={t.configHint} value="{}" />
          </Form>
        </Modal>
      )}
    </Page>
  );
}
