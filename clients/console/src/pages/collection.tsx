import { useRef, useState } from "preact/hooks";
import { useLocation, useRoute } from "preact-iso";
import { call, Problem, request, type Schemas } from "../api";
import { texts } from "../texts";
import { Empty, Page, Show, Time, useLoad } from "../ui/basics";
import { ask, Modal, tell } from "../ui/dialogs";
import { Field, Filters, Form } from "../ui/fields";
import { Differences } from "../ui/json";
import { type Column, PagedTable, Table } from "../ui/table";
import { Link } from "./letters";
import { jsonOf, queryOf, textOf } from "../ui/values";

type Item = Schemas["Item"];
type Version = Schemas["Version"];
const t = texts.data;
const PREVIEW = 120;

export function CollectionPage() {
  const { params } = useRoute();
  const name = decodeURIComponent(params.collection ?? "");
  const path = `/data/collections/${encodeURIComponent(name)}`;
  const { query, route } = useLocation();
  const [turn, setTurn] = useState(0);
  const [opened, setOpened] = useState<Item | "new">();
  const [configures, setConfigures] = useState(false);
  const reload = () => setTurn((before) => before + 1);
  const filter = { ...(query.filter ? { filter: query.filter } : {}), ...(query.sort ? { sort: query.sort } : {}) };
  const load = (cursor?: string) =>
    call<{ items: Item[] }>("GET", `${path}?${new URLSearchParams({ ...filter, ...(cursor ? { cursor } : {}) })}`);
  const apply = (values: FormData) => route(`/console/data/${encodeURIComponent(name)}?${new URLSearchParams(queryOf(values))}`);
  const remove = () =>
    ask(t.removeCollection(name), texts.delete, async () => {
      await call("DELETE", path);
      route("/console/data");
    });
  const columns: Column<Item>[] = [
    { title: "ID", show: (item) => <Link text={item.id} onOpen={() => setOpened(item)} /> },
    { title: t.items, show: (item) => <code>{JSON.stringify(item.data).slice(0, PREVIEW)}</code> },
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
          <a role="button" class="secondary" href={`${path}/export`} download={`${name}.ndjson`}>
            {t.exportFile}
          </a>
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
      <PagedTable load={load} keys={[path, query.filter, query.sort, turn]} columns={columns} caption={t.items} empty={t.noItems} />
      {opened && <Editor path={path} item={opened === "new" ? undefined : opened} onClose={close} />}
      {configures && <Configuration path={path} onClose={() => setConfigures(false)} />}
    </Page>
  );
}

/** Sends a file with one JSON document per line, and says how many lines were taken. */
function Import({ path, onDone }: { path: string; onDone: () => void }) {
  const send = async (input: HTMLInputElement) => {
    const text = await input.files?.[0]?.text();
    input.value = "";
    if (!text) return;
    tell(t.importing(text.trim().split("\n").length));
    const init = { method: "POST", body: text, headers: { "Content-Type": "application/x-ndjson" } };
    const response = await request(new Request(new URL(`${path}/import`, location.origin), init));
    const results = (await response.text()).trim().split("\n").filter(Boolean).map((line) => JSON.parse(line) as { status: number });
    const good = results.filter((result) => result.status < 300).length;
    tell(t.imported(good, results.length - good));
    onDone();
  };
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <button type="button" class="secondary" onClick={() => input.current?.click()}>
        {t.importFile}
      </button>
      <input ref={input} type="file" hidden aria-label={t.importFile} accept=".ndjson,.jsonl" onChange={(event) => void send(event.currentTarget)} />
    </>
  );
}

function Editor({ path, item, onClose }: { path: string; item: Item | undefined; onClose: () => void }) {
  const [past, setPast] = useState(false);
  const itemPath = `${path}/${encodeURIComponent(item?.id ?? "")}`;
  const save = async (values: FormData) => {
    const data = jsonOf(values, "data");
    const id = textOf(values, "id");
    if (item) await call("PUT", itemPath, { data }, { "If-Match": `"${item.version}"` });
    else await call("POST", path, id ? { id, data } : { data });
    onClose();
  };
  const remove = async () => {
    await call("DELETE", itemPath, undefined, { "If-Match": `"${item?.version}"` });
    onClose();
    tell(t.deleted, () => call("POST", path, { id: item?.id, data: item?.data }).then(onClose));
  };
  return (
    <Modal title={item?.id ?? t.newItem} onClose={onClose}>
      <Form submit={texts.save} onSubmit={save} onCancel={onClose}>
        {!item && <Field name="id" label={texts.objects.name} />}
        <Field name="data" label="JSON" type="json" rows={16} value={JSON.stringify(item?.data ?? {}, null, 2)} />
      </Form>
      {item && (
        <footer>
          <button type="button" class="secondary" onClick={() => setPast(!past)}>
            {t.history}
          </button>
          <button type="button" class="danger" onClick={() => ask(t.removeItem(item.id), texts.delete, remove)}>
            {texts.delete}
          </button>
        </footer>
      )}
      {item && past && <Past path={itemPath} item={item} onRestored={onClose} />}
    </Modal>
  );
}

/** The versions of an item, what each changed against today's, and the way back to one. */
function Past({ path, item, onRestored }: { path: string; item: Item; onRestored: () => void }) {
  const versions = useLoad(() => readHistory(path), [path]);
  const [compared, setCompared] = useState<Item>();
  const compare = async (version: number) => setCompared(await call<Item>("GET", `${path}?version=${version}`));
  const restore = async (version: number) => {
    await call("POST", `${path}/restore?version=${version}`, undefined, { "If-Match": `"${item.version}"` });
    tell(t.restored(version));
    onRestored();
  };
  const columns: Column<Version>[] = [
    { title: texts.objects.version, show: (version) => version.version },
    { title: t.owner, show: (version) => version.author },
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

const FIXED = new Set(["name", "owner", "version", "created_at", "updated_at", "project"]);

function Configuration({ path, onClose }: { path: string; onClose: () => void }) {
  const found = useLoad(() => call<Schemas["Collection"]>("GET", `${path}/config`), [path]);
  const save = async (values: FormData) => {
    await call("PUT", path, jsonOf(values, "config"), { "If-Match": `"${found.data?.version}"` });
    onClose();
  };
  return (
    <Modal title={t.configuration} onClose={onClose}>
      <Show of={found}>
        {(config) => (
          <Form submit={texts.save} onSubmit={save} onCancel={onClose}>
            <Field
              name="config"
              label={t.configuration}
              hint={t.configHint}
              type="json"
              rows={18}
              value={JSON.stringify(Object.fromEntries(Object.entries(config).filter(([key]) => !FIXED.has(key))), null, 2)}
            />
          </Form>
        )}
      </Show>
    </Modal>
  );
}
