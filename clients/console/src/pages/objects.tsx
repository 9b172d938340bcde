import { useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { call, type PageOf, type Pages, pagesOf, Problem, type Schemas, withQuery } from "../api";
import { parseSearch, searchPages } from "../search";
import { may } from "../session";
import { useFigures } from "../stream";
import { texts } from "../texts";
import { type Described, type ObjectType, readTypes } from "../types";
import { Action, Badge, Failed, kindOf, Page, Time, useLoad } from "../ui/basics";
import { Modal } from "../ui/dialogs";
import { Field, type FieldProps, Filters, Form } from "../ui/fields";
import { type Column, PagedTable, Table } from "../ui/table";
import { Busiest } from "./fleet";
import { jsonOf, queryOf, textOf } from "../ui/values";

type Row = Schemas["DurableObject"];
const t = texts.objects;
const LIST = "/durable-objects";
/** Pages of 500 objects that are counted at most. */
const COUNTED_PAGES = 20;
/** Objects with which a page of several types is content. */
const ENOUGH = 50;

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
  const internal = query.others === t.internalToo;
  const types = useLoad(() => readOwnTypes(query.others), [query.others]);
  const [creates, setCreates] = useState(false);
  const [shown, setShown] = useState(0);
  const { latest } = useFigures(may("fleet:read"));
  const names = types.data?.types.map((type) => type.name) ?? [];
  // Without a choice, the objects of the types that are shown follow each other.
  const chained = !query.type && !query.others && may("fleet:read");
  const filter = { type: query.type, internal: internal ? "true" : undefined };
  const searches = Boolean(query.search && query.type);
  const load = searches ? searchPages(LIST, filter, parseSearch(query.search ?? "")) : chained ? pagesOfTypes(names) : pagesOf<Row>(LIST, filter);
  const apply = (values: FormData) => {
    const { open, ...rest } = queryOf(values);
    route(open ? objectUrl(open) : withQuery("/console/objects", rest));
  };
  const actions = (
    <button type="button" onClick={() => setCreates(true)}>
      {t.new}
    </button>
  );
  const fields: FieldProps[] = [
    { name: "type", label: t.type, type: "select", options: ["", ...names], value: query.type ?? "" },
    { name: "search", label: t.search, hint: t.searchHint, value: query.search ?? "" },
    { name: "open", label: t.open, hint: t.openHint },
    { name: "others", label: t.others, type: "select", options: ["", t.othersShown, t.internalToo], empty: t.hiddenTypes, value: query.others ?? "" },
  ];
  return (
    <Page title={t.title} actions={may("objects:manage") && actions}>
      {types.error !== undefined && <Failed error={types.error} onRetry={types.reload} />}
      <Filters key={names.join()} onChange={apply} fields={may("fleet:read") ? fields : fields.slice(0, 3)} />
      {!query.type && types.data && (
        <details>
          <summary>{t.types}</summary>
          <Table columns={TYPES} rows={types.data.types} caption={t.types} />
        </details>
      )}
      {may("fleet:read") && (
        <details>
          <summary>{texts.fleet.busiest}</summary>
          <Busiest of={latest} />
        </details>
      )}
      {query.search && <p class="muted">{searches ? t.searched : t.searchNeedsType}</p>}
      <PagedTable
        load={load}
        keys={[query.type, query.others, query.search, chained && names.join()]}
        columns={COLUMNS}
        caption={t.title}
        empty={searches ? t.noMatch : t.empty}
        onLoad={(rows) => setShown(rows.length)}
      />
      {shown > 0 && !chained && <Count key={query.type} filter={filter} shown={shown} />}
      {creates && <NewObject types={names} onClose={() => setCreates(false)} />}
    </Page>
  );
}

/** The services that come with the product, except the one that hosts users' types. */
const READY_MADE = ["api_gateway", "authentication", "data_storage", "events", "projects", "user_management"];

/** Return the types, without those that only ready-made services host unless `others` asks for them. */
async function readOwnTypes(others: string | undefined): Promise<Described> {
  const described = await readTypes(others === t.internalToo);
  if (others || !may("fleet:read")) return described;
  const { hosts } = await call<Schemas["FleetHosts"]>("GET", "/fleet");
  const made = new Set(hosts.filter((host) => READY_MADE.includes(host.service)).flatMap((host) => Object.keys(host.partitions)));
  return { ...described, types: described.types.filter((type) => !made.has(type.name)) };
}

/** Return a function that loads the objects of one type after another. Types that no host serves are left out, as the API does. */
function pagesOfTypes(types: string[]): Pages<Row> {
  return async (from) => {
    let [index, cursor]: [number, string | null] = from ? JSON.parse(from) : [0, null];
    const items: Row[] = [];
    for (; index < types.length && items.length < ENOUGH; index++, cursor = null) {
      const page = await call<PageOf<Row>>("GET", withQuery(LIST, { type: types[index], cursor: cursor ?? undefined })).catch(noneIfUnavailable);
      items.push(...page.items);
      if (page.next_cursor) return { items, next_cursor: JSON.stringify([index, page.next_cursor]) };
    }
    return { items, next_cursor: index < types.length ? JSON.stringify([index, null]) : null };
  };
}

function noneIfUnavailable(error: unknown): PageOf<Row> {
  if (error instanceof Problem && error.code === "unavailable") return { items: [], next_cursor: null };
  throw error;
}

/** The number of objects that are shown and, on demand, of all that there are. */
function Count({ filter, shown }: { filter: Record<string, string | undefined>; shown: number }) {
  const [text, setText] = useState("");
  const count = async () => {
    let [all, cursor]: [number, string | undefined] = [0, undefined];
    for (let page = 0; page < COUNTED_PAGES && (cursor !== undefined || page === 0); page++) {
      const found: PageOf<Row> = await call("GET", withQuery(LIST, { ...filter, limit: "500", cursor }));
      all += found.items.length;
      cursor = found.next_cursor ?? undefined;
    }
    setText(t.counted(all, cursor !== undefined));
  };
  return (
    <p class="muted" role="status">
      {t.count}: {shown} {text ? `· ${text}` : <Action label={t.countAll} run={count} kind="link" />}
    </p>
  );
}

const TYPES: Column<ObjectType>[] = [
  { title: t.type, show: (type) => <a href={`/console/objects?type=${type.name}`}>{type.name}</a> },
  { title: t.about, show: (type) => type.about },
  { title: t.methods, show: (type) => type.methods.map((method) => method.name).join(", ") },
];

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
