import { useState } from "preact/hooks";
import { useLocation, useRoute } from "preact-iso";
import { call, ifMatch, pagesOf, Problem, type Schemas } from "../api";
import { may } from "../session";
import { useChanges } from "../stream";
import { texts } from "../texts";
import { Empty, Page, Show, Time, useLoad } from "../ui/basics";
import { ask, Modal, tell } from "../ui/dialogs";
import { Field, Filters, Form } from "../ui/fields";
import { Differences } from "../ui/json";
import { type Column, PagedTable, Table } from "../ui/table";
import { UserName } from "../ui/people";
import { Configuration } from "./configuration";
import { Link } from "./letters";
import { Export, Import } from "./transfers";
import { jsonOf, queryOf, textOf } from "../ui/values";

type Item = Schemas["Item"];
type Version = Schemas["Version"];
const t = texts.data;
const PREVIEW = 120;

export function CollectionPage() {
  const { params } = useRoute();
  const name = params.collection ?? "";
  const path = `/data/collections/${encodeURIComponent(name)}`;
  const { query, route } = useLocation();
  const [turn, setTurn] = useState(0);
  const [opened, setOpened] = useState<Item | "new">();
  const [configures, setConfigures] = useState(false);
  const reload = () => setTurn((before) => before + 1);
  useChanges({ type: "item", collection: name }, may("events:read"), reload);
  const apply = (values: FormData) => route(`/console/data/${encodeURIComponent(name)}?${new URLSearchParams(queryOf(values))}`);
  const remove = () =>
    ask(t.removeCollection(name), texts.delete, async () => {
      await call("DELETE", path);
      route("/console/data");
    });
  const columns: Column<Item>[] = [
    { title: "ID", show: (item) => <Link text={item.id} onOpen={() => setOpened(item)} /> },
    { title: t.content, show: (item) => <code>{JSON.stringify(item.data).slice(0, PREVIEW)}</code> },
    { title: texts.objects.version, show: (item) => item.version },
    { title: t.updated, show: (item) => <Time at={item.updated_at} /> },
  ];
  const close = () => {
    setOpened(undefined);
    reload();
  };
  return (
    <Page
      title={name}
      actions={
        <>
          <Export path={path} name={name} />
          <Import path={path} onDone={reload} />
          <button type="button" class="secondary" onClick={() => setConfigures(true)}>
            {t.configuration}
          </button>
          <button type="button" class="danger" onClick={remove}>
            {texts.delete}
          </button>
          <button type="button" onClick={() => setOpened("new")}>
            {t.newItem}
          </button>
        </>
      }
    >
      <Filters
        onChange={apply}
        fields={[
          { name: "filter", label: t.filter, hint: t.filterHint, value: query.filter ?? "" },
          { name: "sort", label: t.sort, hint: t.sortHint, value: query.sort ?? "" },
        ]}
      />
      <PagedTable load={pagesOf<Item>(path, { filter: query.filter, sort: query.sort })} keys={[path, query.filter, query.sort]} turn={turn} columns={columns} caption={t.items} empty={t.noItems} />
      {opened && <Editor path={path} item={opened === "new" ? undefined : opened} onClose={close} />}
      {configures && <Configuration path={path} onClose={() => setConfigures(false)} />}
    </Page>
  );
}

function Editor({ path, item, onClose }: { path: string; item: Item | undefined; onClose: () => void }) {
  const [past, setPast] = useState(false);
  const itemPath = `${path}/${encodeURIComponent(item?.id ?? "")}`;
  const save = async (values: FormData) => {
    const data = jsonOf(values, "data");
    const id = textOf(values, "id");
    if (item) await call("PUT", itemPath, { data }, ifMatch(item));
    else await call("POST", path, id ? { id, data } : { data });
    onClose();
  };
  const remove = async () => {
    await call("DELETE", itemPath, undefined, ifMatch(item));
    onClose();
    tell(t.deleted, () => call("POST", path, { id: item?.id, data: item?.data }).then(onClose));
  };
  return (
    <Modal title={item?.id ?? t.newItem} onClose={onClose}>
      <Form submit={texts.save} onSubmit={save} onCancel={onClose}>
        {!item && <Field name="id" label={texts.objects.name} />}
        <Field name="data" label="JSON" type="json" rows={16} value={JSON.stringify(item?.data ?? {}, null, 2)} />
      </Form>
      {item && past && <Past path={itemPath} item={item} onRestored={onClose} />}
      {item && (
        <footer>
          <button type="button" class="secondary" aria-expanded={past} onClick={() => setPast(!past)}>
            {t.history}
          </button>
          <button type="button" class="danger" onClick={() => ask(t.removeItem(item.id), texts.delete, remove)}>
            {texts.delete}
          </button>
        </footer>
      )}
    </Modal>
  );
}

/** The versions of an item, what each changed against today's, and the way back to one. */
function Past({ path, item, onRestored }: { path: string; item: Item; onRestored: () => void }) {
  const versions = useLoad(() => readHistory(path), [path]);
  const [compared, setCompared] = useState<Item>();
  const compare = async (version: number) => setCompared(await call<Item>("GET", `${path}?version=${version}`));
  const restore = async (version: number) => {
    await call("POST", `${path}/restore?version=${version}`, undefined, ifMatch(item));
    tell(t.restored(version));
    onRestored();
  };
  const columns: Column<Version>[] = [
    { title: texts.objects.version, show: (version) => version.version },
    { title: t.author, show: (version) => <UserName id={version.author} /> },
    { title: t.updated, show: (version) => <Time at={version.at} /> },
    {
      title: texts.actions,
      show: ({ version, deleted }) =>
        !deleted && (
          <div class="actions">
            <Link text={t.compare} onOpen={() => void compare(version)} />
            <Link text={t.restore} onOpen={() => void restore(version)} />
          </div>
        ),
    },
  ];
  return (
    <Show of={versions}>
      {(rows) => (
        <>
          {rows.length ? <Table columns={columns} rows={rows} caption={t.history} /> : <Empty>{t.noHistory}</Empty>}
          {compared && <Differences before={compared.data} after={item.data} />}
        </>
      )}
    </Show>
  );
}

async function readHistory(path: string): Promise<Version[]> {
  try {
    return (await call<{ items: Version[] }>("GET", `${path}/history`)).items;
  } catch (error) {
    if (error instanceof Problem && error.status === 409) return [];
    throw error;
  }
}
