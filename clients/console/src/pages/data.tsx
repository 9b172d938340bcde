import { useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { call, pagesOf, type Schemas } from "../api";
import { texts } from "../texts";
import { Page, Time } from "../ui/basics";
import { Modal } from "../ui/dialogs";
import { Field, Form } from "../ui/fields";
import { type Column, PagedTable } from "../ui/table";
import { UserName } from "../ui/people";
import { textOf } from "../ui/values";
import { ConfigurationFields, configurationOf } from "./configuration";

type Entry = Schemas["CollectionEntry"];
const t = texts.data;

export function collectionUrl(name: string): string {
  return `/console/data/${encodeURIComponent(name)}`;
}

const COLUMNS: Column<Entry>[] = [
  { title: t.name, show: (entry) => <a href={collectionUrl(entry.name)}>{entry.name}</a> },
  { title: t.count, show: (entry) => entry.count },
  { title: t.owner, show: (entry) => <UserName id={entry.owner} /> },
  { title: t.updated, show: (entry) => <Time at={entry.updated_at} /> },
];

export function Data() {
  const { route } = useLocation();
  const [creates, setCreates] = useState(false);
  const create = async (values: FormData) => {
    const name = textOf(values, "name");
    await call("PUT", `/data/collections/${encodeURIComponent(name)}`, configurationOf(values), { "If-None-Match": "*" });
    route(collectionUrl(name));
  };
  return (
    <Page title={t.title} actions={<button type="button" onClick={() => setCreates(true)}>{t.newCollection}</button>}>
      <PagedTable load={pagesOf<Entry>("/data/collections")} keys={[]} columns={COLUMNS} caption={t.title} empty={t.empty} />
      {creates && (
        <Modal title={t.newCollection} onClose={() => setCreates(false)}>
          <Form submit={texts.create} onSubmit={create} onCancel={() => setCreates(false)}>
            <Field name="name" label={t.name} required />
            <details>
              <summary>{t.configuration}</summary>
              <ConfigurationFields config={{}} />
            </details>
          </Form>
        </Modal>
      )}
    </Page>
  );
}
