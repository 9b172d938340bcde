import { useState } from "preact/hooks";
import { call, ifMatch, pagesOf, type Schemas } from "../api";
import { texts } from "../texts";
import { Page } from "../ui/basics";
import { ask, Modal, tell } from "../ui/dialogs";
import { Field, Form } from "../ui/fields";
import { type Column, PagedTable } from "../ui/table";
import { Link } from "./letters";
import { textOf, wordsOf } from "../ui/values";

type Role = Schemas["Role"];
const t = texts.roles;

export function Roles() {
  const [turn, setTurn] = useState(0);
  const [edited, setEdited] = useState<Role | "new">();
  const reload = () => setTurn((before) => before + 1);
  const close = () => setEdited(undefined);
  const save = async (values: FormData) => {
    const body = { permissions: wordsOf(values, "permissions"), description: textOf(values, "description") };
    if (edited === "new") await call("POST", "/roles", { ...body, name: textOf(values, "name") });
    else if (edited) await call("PUT", `/roles/${edited.name}`, body, ifMatch(edited));
    close();
    reload();
  };
  const remove = (role: Role) =>
    ask(t.remove(role.name), texts.delete, async () => {
      await call("DELETE", `/roles/${role.name}`);
      reload();
      const { name, permissions, description } = role;
      tell(t.removed(name), () => call("POST", "/roles", { name, permissions, description }).then(reload));
    });
  const columns: Column<Role>[] = [
    { title: t.name, show: (role) => (role.builtin ? role.name : <Link text={role.name} onOpen={() => setEdited(role)} />) },
    { title: t.allows, show: (role) => role.permissions.join(", ") || texts.none },
    { title: t.description, show: (role) => role.description },
    {
      title: texts.actions,
      show: (role) =>
        !role.builtin && (
          <button type="button" class="danger" onClick={() => remove(role)}>
            {texts.delete}
          </button>
        ),
    },
  ];
  const role = edited === "new" ? undefined : edited;
  return (
    <Page title={t.title} actions={<button type="button" onClick={() => setEdited("new")}>{t.new}</button>}>
      <PagedTable load={pagesOf<Role>("/roles")} keys={[]} turn={turn} columns={columns} caption={t.title} empty={t.empty} />
      {edited && (
        <Modal title={role?.name ?? t.new} onClose={close}>
          <Form submit={texts.save} onSubmit={save} onCancel={close}>
            {!role && <Field name="name" label={t.name} required />}
            <Field name="permissions" label={t.permissions} type="textarea" rows={4} value={role?.permissions.join(", ") ?? ""} />
            <Field name="description" label={t.description} value={role?.description ?? ""} />
          </Form>
        </Modal>
      )}
    </Page>
  );
}
