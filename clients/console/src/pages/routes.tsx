import { useState } from "preact/hooks";
import { call, ifMatch, pagesOf, type Schemas } from "../api";
import { texts } from "../texts";
import { Page } from "../ui/basics";
import { ask, Modal, tell } from "../ui/dialogs";
import { Field, Form } from "../ui/fields";
import { type Column, PagedTable } from "../ui/table";
import { Link } from "./letters";
import { jsonOf } from "../ui/values";

type Route = Schemas["RouteInfo"];
const t = texts.routes;
const EXAMPLE = { method: "GET", path: "/clicks/{id}", object_type: "counter", object_id: "{id}", object_method: "value" };
const KEPT = new Set(["id", "version", "created_at", "updated_at"]);

function bodyOf(route: Route) {
  return Object.fromEntries(Object.entries(route).filter(([key]) => !KEPT.has(key)));
}

export function Routes() {
  const [turn, setTurn] = useState(0);
  const [edited, setEdited] = useState<Route | "new">();
  const reload = () => setTurn((before) => before + 1);
  const close = () => setEdited(undefined);
  const route = edited === "new" ? undefined : edited;
  const save = async (values: FormData) => {
    const body = jsonOf(values, "route");
    if (route) await call("PUT", `/routes/${route.id}`, body, ifMatch(route));
    else await call("POST", "/routes", body);
    close();
    reload();
  };
  const remove = (gone: Route) =>
    ask(t.remove(gone.path), texts.delete, async () => {
      await call("DELETE", `/routes/${gone.id}`);
      reload();
      tell(t.removed(gone.path), () => call("POST", "/routes", bodyOf(gone)).then(reload));
    });
  const columns: Column<Route>[] = [
    { title: t.method, show: (row) => row.method },
    { title: t.path, show: (row) => <Link text={row.path} onOpen={() => setEdited(row)} /> },
    { title: t.target, show: (row) => `${row.object_type}:${row.object_id} ${row.object_method}` },
    { title: t.permission, show: (row) => row.permission ?? texts.none },
    {
      title: texts.actions,
      show: (row) => (
        <button type="button" class="danger" onClick={() => remove(row)}>
          {texts.delete}
        </button>
      ),
    },
  ];
  const shown = route ? bodyOf(route) : EXAMPLE;
  return (
    <Page title={t.title} actions={<button type="button" onClick={() => setEdited("new")}>{t.new}</button>}>
      <PagedTable load={pagesOf<Route>("/routes")} keys={[]} turn={turn} columns={columns} caption={t.title} empty={t.empty} />
      {edited && (
        <Modal title={route?.path ?? t.new} onClose={close}>
          <Form submit={texts.save} onSubmit={save} onCancel={close}>
            <Field name="route" label={t.body} type="json" rows={12} value={JSON.stringify(shown, null, 2)} />
          </Form>
        </Modal>
      )}
    </Page>
  );
}
