import { useState } from "preact/hooks";
import { useLocation, useRoute } from "preact-iso";
import { call, ifMatch, Problem, type Schemas } from "../api";
import { may } from "../session";
import { useEvents } from "../stream";
import { texts } from "../texts";
import { placeOf } from "../placement";
import { type Described, type Method, readTypes } from "../types";
import { Action, Badge, Empty, kindOf, Page, Show, Time, useLoad } from "../ui/basics";
import { ask, Modal, tell } from "../ui/dialogs";
import { Field, Form } from "../ui/fields";
import { JsonTree } from "../ui/json";
import { argumentsOf, fieldsOf } from "../ui/schema_form";
import { EventList } from "./events";
import { objectUrl } from "./objects";
import { Pending } from "./pending";
import { Versions } from "./versions";
import { jsonOf } from "../ui/values";

type Shown = Schemas["DurableObject"];
const t = texts.objects;

export function ObjectPage() {
  const { params } = useRoute();
  const object = params.object ?? "";
  const [type = "", id = ""] = object.split(/:(.*)/s);
  const path = `/durable-objects/${encodeURIComponent(object)}`;
  const shown = useLoad(() => readObject(path), [path]);
  const types = useLoad(() => readTypes(may("fleet:read")), []);
  const stream = useEvents({ type, id }, may("events:read"), shown.reload);
  const { route } = useLocation();
  const [edits, setEdits] = useState(false);
  const remove = () =>
    ask(t.remove(object), texts.delete, async () => {
      await call("DELETE", path);
      route(`/console/objects?type=${type}`);
      const { state, project } = shown.data ?? {};
      const again = { type, name: id, state, ...(project ? { project } : {}) };
      tell(t.removed(object), state ? () => call("POST", "/durable-objects", again).then(() => route(objectUrl(object))) : undefined);
    });
  const hibernate = async () => {
    await call("POST", `${path}/hibernate`);
    tell(t.hibernated);
    shown.reload();
  };
  const actions = may("objects:manage") && shown.data && (
    <>
      {shown.data.status === "active" && <Action label={t.hibernate} run={hibernate} />}
      {shown.data.state && (
        <button type="button" class="secondary" onClick={() => setEdits(true)}>
          {t.replace}
        </button>
      )}
      <button type="button" class="danger" onClick={remove}>
        {texts.delete}
      </button>
    </>
  );
  return (
    <Page title={object} actions={actions}>
      <div class="columns">
        <section aria-label={t.state}>
          <h2>{t.state}</h2>
          {may("objects:manage") && <Show of={shown}>{(data) => (data ? <State of={data} /> : <Empty>{t.missing}</Empty>)}</Show>}
        </section>
        <section aria-label={t.methods}>
          <h2>{t.methods}</h2>
          <Show of={types}>{(described) => <Methods described={described} type={type} path={path} onCalled={shown.reload} />}</Show>
        </section>
      </div>
      {shown.data?.state && <Pending path={path} turn={shown.data} />}
      {shown.data?.state && (
        <section aria-label={texts.versions.title}>
          <h2>{texts.versions.title}</h2>
          <Versions path={path} current={shown.data} onRestored={shown.reload} />
        </section>
      )}
      <section aria-label={t.events}>
        <h2>{t.events}</h2>
        <EventList following={stream} empty={t.noEvents} />
      </section>
      {edits && shown.data && (
        <Replace path={path} data={shown.data} onDone={() => { setEdits(false); shown.reload(); }} onClose={() => setEdits(false)} />
      )}
    </Page>
  );
}

/** Return the object, or null if it doesn't exist. */
async function readObject(path: string): Promise<Shown | null> {
  try {
    return await call<Shown>("GET", path);
  } catch (error) {
    if (error instanceof Problem && error.code === "not-found") return null;
    throw error;
  }
}

function State({ of: object }: { of: Shown }) {
  return (
    <>
      <dl class="facts">
        <dt>{t.version}</dt>
        <dd>{object.version}</dd>
        <dt>{t.status}</dt>
        <dd>
          <Badge kind={kindOf(object.status)}>{object.status}</Badge>
        </dd>
        <dt>{t.created}</dt>
        <dd>
          <Time at={object.created_at} />
        </dd>
        <dt>{t.updated}</dt>
        <dd>
          <Time at={object.updated_at} />
        </dd>
        {may("fleet:read") && <Host of={object} />}
        {object.project && (
          <>
            <dt>{t.project}</dt>
            <dd>
              <a href={`/console/projects/${encodeURIComponent(object.project)}`}>{object.project}</a>
            </dd>
          </>
        )}
      </dl>
      {object.state ? <JsonTree value={object.state} /> : <Empty>{t.hidden}</Empty>}
    </>
  );
}

/** The host that holds the object, or that the next call of it reaches. */
function Host({ of: object }: { of: Shown }) {
  const fleet = useLoad(() => call<Schemas["FleetHosts"]>("GET", "/fleet"), [object.object_id, object.status]);
  const found = fleet.data && placeOf(object.type, object.id, fleet.data.hosts);
  if (!found) return null;
  return (
    <>
      <dt>{t.host}</dt>
      <dd>
        <a href="/console/fleet">{found.host ?? t.noHost}</a> <span class="muted">{t.partition(found.partition)}</span>
      </dd>
    </>
  );
}

function Methods({ described, type, path, onCalled }: { described: Described; type: string; path: string; onCalled: () => void }) {
  const methods = described.types.find((each) => each.name === type)?.methods ?? [];
  const [chosen, setChosen] = useState(methods[0]?.name ?? "");
  const method = methods.find((each) => each.name === chosen) ?? methods[0];
  if (!method) return <Empty>{t.noMethods}</Empty>;
  return (
    <>
      <label>
        {t.method}
        <select name="method" value={method.name} onChange={(event) => setChosen(event.currentTarget.value)}>
          {methods.map((each) => (
            <option value={each.name}>{each.name}</option>
          ))}
        </select>
      </label>
      {method.about && <p class="muted">{method.about}</p>}
      <Call key={method.name} method={method} described={described} path={path} onCalled={onCalled} />
    </>
  );
}

function Call({ method, described, path, onCalled }: { method: Method; described: Described; path: string; onCalled: () => void }) {
  const [answer, setAnswer] = useState<{ result: unknown; took: number }>();
  const fields = fieldsOf(method.args, described.definitions);
  const send = async (values: FormData) => {
    const args = argumentsOf(method.args, described.definitions, values);
    const began = performance.now();
    const { result } = await call<{ result: unknown }>("POST", `${path}/request`, { method: method.name, args });
    setAnswer({ result, took: Math.round(performance.now() - began) });
    onCalled();
  };
  return (
    <>
      <Form fields={fields} submit={`${t.callMethod} ${method.name}`} onSubmit={send}>
        {fields.length === 0 && <p class="muted">{texts.form.noArguments}</p>}
      </Form>
      {answer && (
        <div role="status">
          <p class="muted">{t.took(answer.took)}</p>
          <JsonTree value={answer.result} name={t.result} />
        </div>
      )}
    </>
  );
}

function Replace({ path, data, onDone, onClose }: { path: string; data: Shown; onDone: () => void; onClose: () => void }) {
  const save = async (values: FormData) => {
    await call("PUT", path, { state: jsonOf(values, "state") }, ifMatch(data));
    onDone();
  };
  return (
    <Modal title={t.replace} onClose={onClose}>
      <Form submit={texts.save} onSubmit={save} onCancel={onClose}>
        <Field name="state" label={t.state} type="json" rows={16} value={JSON.stringify(data.state, null, 2)} />
      </Form>
    </Modal>
  );
}
