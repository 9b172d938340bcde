import { useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { api, call, dataOf, type Schemas } from "../api";
import { may } from "../session";
import { texts } from "../texts";
import { readTypes } from "../types";
import { Badge, Failed, kindOf, Page, Time, useLoad } from "../ui/basics";
import { Modal } from "../ui/dialogs";
import { Field, Filters, Form } from "../ui/fields";
import { type Column, PagedTable } from "../ui/table";
import { jsonOf, queryOf, textOf } from "../ui/values";

type Row = Schemas["DurableObject"];
const t = texts.objects;

const COLUMNS: Column<Row>[] = [
  { title: t.id, show: (row) => <a href={objectUrl(row.object_id)}>{row.object_id}</a> },
  { title: t.version, show: (row) => row.version },
  { title: t.status, show: (row) => <Badge kind={kindOf(row.status)}>{row.status}</Badge> },
  { title: t.updated, show: (row) => <Time at={row.updated_at} /> },
];

export function objectUrl(id: string): string {
  return `/console/objects/${encodeURIComponent(id)}`;
}

export function Objects() {
  const { query, route } = useLocation();
  const internal = query.internal === "true";
  const types = useLoad(() => readTypes(internal), [internal]);
  const [creates, setCreates] = useState(false);
  const [shown, setShown] = useState(0);
  const names = types.data?.types.map((type) => type.name) ?? [];
  const filter = { ...(query.type ? { type: query.type } : {}), ...(internal ? { internal: true } : {}) };
  const load = (cursor: string | undefined) =>
    dataOf(api.GET("/durable-objects", { params: { query: { ...filter, ...(cursor ? { cursor } : {}) } } } as never));
  const apply = (values: FormData) => {
    const { open, ...rest } = queryOf(values);
    route(open ? objectUrl(open) : `/console/objects?${new URLSearchParams(rest)}`);
  };
  const actions = (
    <button type="button" onClick={() => setCreates(true)}>
      {t.new}
    </button>
  );
  return (
    <Page title={t.title} actions={may("objects:manage") && actions}>
      {types.error !== undefined && <Failed error={types.error} onRetry={types.reload} />}
      <Filters
        key={names.join()}
        onChange={apply}
        fields={[
          { name: "type", label: t.type, type: "select", options: ["", ...names], value: query.type ?? "" },
          { name: "open", label: t.open, hint: t.openHint },
          ...(may("fleet:read")
            ? [{ name: "internal", label: t.internal, type: "select", options: ["", "true"], value: query.internal ?? "" }]
            : []),
        ]}
      />
      <PagedTable
        load={load as never}
        keys={[query.type, internal]}
        columns={COLUMNS}
        caption={t.title}
        empty={t.empty}
        onLoad={(rows) => setShown(rows.length)}
      />
      {shown > 0 && (
        <p class="muted">
          {t.count}: {shown}
        </p>
      )}
      {creates && <NewObject types={names} onClose={() => setCreates(false)} />}
    </Page>
  );
}

function NewObject({ types, onClose }: { types: string[]; onClose: () => void }) {
  const { route } = useLocation();
  const create = async (values: FormData) => {
    const state = jsonOf(values, "state");
    const name = textOf(values, "name");
    const body = { type: textOf(values, "type"), ...(name ? { name } : {}), ...(state === undefined ? {} : { state }) };
    const made = await call<Row>("POST", "/durable-objects", body);
    route(objectUrl(made.object_id));
  };
  return (
    <Modal title={t.new} onClose={onClose}>
      <Form submit={texts.create} onSubmit={create} onCancel={onClose}>
        <Field name="type" label={t.type} type="select" options={types} value={types[0] ?? ""} />
        <Field name="name" label={t.name} />
        <Field name="state" label={t.state} type="json" />
      </Form>
    </Modal>
  );
}
