import { useState } from "preact/hooks";
import { call, ifMatch, MERGE_PATCH, pagesOf, type Schemas } from "../api";
import { texts } from "../texts";
import { Action, Badge, Copy, kindOf, Page, Time } from "../ui/basics";
import { ask, Modal, tell } from "../ui/dialogs";
import { Form } from "../ui/fields";
import { type Column, PagedTable } from "../ui/table";
import { Link } from "./letters";
import { textOf, wordsOf } from "../ui/values";

type Hook = Schemas["WebhookInfo"];
type Delivery = Schemas["DeliveryInfo"];
const t = texts.webhooks;

export function Webhooks() {
  const [turn, setTurn] = useState(0);
  const [edited, setEdited] = useState<Hook | "new">();
  const [secret, setSecret] = useState("");
  const [opened, setOpened] = useState<Hook>();
  const reload = () => setTurn((before) => before + 1);
  const close = () => setEdited(undefined);
  const save = async (values: FormData) => {
    if (edited === "new") setSecret((await call<Schemas["NewWebhook"]>("POST", "/webhooks", hookOf(values))).secret);
    else if (edited) await call("PATCH", `/webhooks/${edited.id}`, hookOf(values), { ...MERGE_PATCH, ...ifMatch(edited) });
    close();
    reload();
  };
  const rotate = (hook: Hook) =>
    ask(t.rotateWarning(hook.url), t.rotate, async () => {
      setSecret((await call<Schemas["NewWebhook"]>("POST", `/webhooks/${hook.id}/rotate-secret`)).secret);
      reload();
    });
  const remove = (hook: Hook) =>
    ask(t.remove(hook.url), texts.delete, async () => {
      await call("DELETE", `/webhooks/${hook.id}`);
      reload();
    });
  const test = (hook: Hook) => call("POST", `/webhooks/${hook.id}/test`).then(() => tell(t.tested));
  const columns: Column<Hook>[] = [
    { title: t.url, show: (hook) => <Link text={hook.url} onOpen={() => setOpened(hook)} /> },
    { title: t.events, show: (hook) => hook.events.join(", ") },
    { title: t.description, show: (hook) => hook.description },
    { title: t.failingSince, show: (hook) => <Time at={hook.failing_since} /> },
    {
      title: t.active,
      show: (hook) => <Badge kind={hook.active ? "good" : "bad"}>{hook.active ? texts.yes : hook.disabled_reason || texts.no}</Badge>,
    },
    {
      title: texts.actions,
      show: (hook) => (
        <div class="actions">
          <Action label={t.test} run={() => test(hook)} />
          <button type="button" class="secondary" onClick={() => setEdited(hook)}>
            {texts.edit}
          </button>
          <button type="button" class="secondary" onClick={() => rotate(hook)}>
            {t.rotate}
          </button>
          <button type="button" class="danger" onClick={() => remove(hook)}>
            {texts.delete}
          </button>
        </div>
      ),
    },
  ];
  return (
    <Page title={t.title} actions={<button type="button" onClick={() => setEdited("new")}>{t.new}</button>}>
      <PagedTable load={pagesOf<Hook>("/webhooks")} keys={[]} turn={turn} columns={columns} caption={t.title} empty={t.empty} />
      {edited && <HookForm hook={edited === "new" ? undefined : edited} onSave={save} onClose={close} />}
      {secret && (
        <Modal title={t.secret} onClose={() => setSecret("")}>
          <Copy text={secret} />
        </Modal>
      )}
      {opened && <Deliveries hook={opened} onClose={() => setOpened(undefined)} />}
    </Page>
  );
}

function HookForm({ hook, onSave, onClose }: { hook: Hook | undefined; onSave: (values: FormData) => Promise<void>; onClose: () => void }) {
  return (
    <Modal title={hook?.url ?? t.new} onClose={onClose}>
      <Form
        submit={hook ? texts.save : texts.create}
        onSubmit={onSave}
        onCancel={onClose}
        fields={[
          { name: "url", label: t.url, type: "url", required: true, value: hook?.url ?? "" },
          { name: "events", label: t.events, hint: t.eventsHint, required: true, value: hook?.events.join(", ") ?? "*" },
          { name: "description", label: t.description, value: hook?.description ?? "" },
          { name: "active", label: t.active, type: "checkbox", checked: hook?.active ?? true },
        ]}
      />
    </Modal>
  );
}

function hookOf(values: FormData) {
  return {
    url: textOf(values, "url"),
    events: wordsOf(values, "events"),
    description: textOf(values, "description"),
    active: values.has("active"),
  };
}

/** Why the last attempt of a delivery has failed. */
function reasonOf({ status, attempts }: Delivery): string {
  const last = attempts.at(-1);
  if (!last || status === "delivered") return texts.none;
  return last.error || (last.status === null ? texts.none : t.answered(last.status));
}

function Deliveries({ hook, onClose }: { hook: Hook; onClose: () => void }) {
  const [turn, setTurn] = useState(0);
  const path = `/webhooks/${hook.id}/deliveries`;
  const reload = () => setTurn((before) => before + 1);
  const replay = (delivery: Delivery) => call("POST", `${path}/${delivery.id}/replay`).then(reload);
  const columns: Column<Delivery>[] = [
    { title: t.at, show: (delivery) => <Time at={delivery.created_at} /> },
    { title: t.event, show: (delivery) => delivery.event_type },
    { title: t.status, show: (delivery) => <Badge kind={kindOf(delivery.status)}>{delivery.status}</Badge> },
    { title: t.tries, show: (delivery) => delivery.tries },
    { title: t.reason, show: (delivery) => delivery.reason || reasonOf(delivery) },
    { title: texts.actions, show: (delivery) => <Action label={t.replay} run={() => replay(delivery)} /> },
  ];
  return (
    <Modal title={`${t.deliveries}: ${hook.url}`} onClose={onClose}>
      <button type="button" class="secondary" onClick={reload}>
        {texts.refresh}
      </button>
      <PagedTable load={pagesOf<Delivery>(path)} keys={[]} turn={turn} columns={columns} caption={t.deliveries} empty={t.noDeliveries} />
    </Modal>
  );
}
