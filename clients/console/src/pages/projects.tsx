import { useState } from "preact/hooks";
import { useLocation, useRoute } from "preact-iso";
import { call, ifMatch, MERGE_PATCH, pagesOf, type Schemas } from "../api";
import { may } from "../session";
import { useChanges } from "../stream";
import { texts } from "../texts";
import { Action, Badge, Copy, kindOf, Page, Show, Time, useLoad } from "../ui/basics";
import { ask, Modal, tell } from "../ui/dialogs";
import { Field, Filters, Form } from "../ui/fields";
import { JsonTree } from "../ui/json";
import { type Column, PagedTable, Table } from "../ui/table";
import { Link } from "./letters";
import { findUser, UserName } from "../ui/people";
import { jsonOf, queryOf, textOf } from "../ui/values";

type Project = Schemas["Project"];
type Member = Schemas["Member"];
type Task = Schemas["Task"];
const t = texts.projects;
const ROLES = ["viewer", "maintainer", "owner"];
const STATUSES = ["", "queued", "running", "succeeded", "failed", "cancelled"];

export function Projects() {
  const { query, route } = useLocation();
  const [creates, setCreates] = useState(false);
  const columns: Column<Project>[] = [
    { title: t.name, show: (project) => <a href={`/console/projects/${project.id}`}>{project.name}</a> },
    { title: t.description, show: (project) => project.description },
    { title: t.members, show: (project) => Object.keys(project.members).length },
    { title: t.created, show: (project) => <Time at={project.created_at} /> },
  ];
  const create = async (values: FormData) => {
    route(`/console/projects/${(await call<Project>("POST", "/projects", projectOf(values))).id}`);
  };
  return (
    <Page title={t.title} actions={may("projects:create") && <button type="button" onClick={() => setCreates(true)}>{t.new}</button>}>
      <Filters
        onChange={(values) => route(`/console/projects?${new URLSearchParams(queryOf(values))}`)}
        fields={[{ name: "q", label: texts.search, value: query.q ?? "" }]}
      />
      <PagedTable load={pagesOf<Project>("/projects", { q: query.q })} keys={[query.q]} columns={columns} caption={t.title} empty={t.empty} />
      {creates && <ProjectForm onSave={create} onClose={() => setCreates(false)} />}
    </Page>
  );
}

function projectOf(values: FormData) {
  return { name: textOf(values, "name"), description: textOf(values, "description") };
}

function ProjectForm({ of: project, onSave, onClose }: { of?: Project; onSave: (values: FormData) => Promise<void>; onClose: () => void }) {
  return (
    <Modal title={project?.name ?? t.new} onClose={onClose}>
      <Form
        submit={project ? texts.save : texts.create}
        onSubmit={onSave}
        onCancel={onClose}
        fields={[
          { name: "name", label: t.name, required: true, value: project?.name ?? "" },
          { name: "description", label: t.description, type: "textarea", rows: 3, value: project?.description ?? "" },
        ]}
      />
    </Modal>
  );
}

export function ProjectPage() {
  const { params } = useRoute();
  const { route } = useLocation();
  const path = `/projects/${encodeURIComponent(params.project ?? "")}`;
  const project = useLoad(() => call<Project>("GET", path), [path]);
  const [edits, setEdits] = useState(false);
  const save = async (values: FormData) => {
    await call("PATCH", path, projectOf(values), { ...MERGE_PATCH, ...ifMatch(project.data) });
    setEdits(false);
    project.reload();
  };
  const remove = () =>
    ask(t.remove(project.data?.name ?? ""), texts.delete, async () => {
      await call("DELETE", path);
      route("/console/projects");
    });
  return (
    <Page
      title={project.data?.name ?? t.title}
      actions={
        <>
          <button type="button" class="secondary" disabled={!project.data} onClick={() => setEdits(true)}>
            {texts.edit}
          </button>
          <WebhookSecret path={path} />
          <button type="button" class="danger" onClick={remove}>
            {texts.delete}
          </button>
        </>
      }
    >
      <Show of={project}>{(data) => <p>{data.description}</p>}</Show>
      <Tasks path={path} />
      <Members path={path} onChange={project.reload} />
      {edits && project.data && <ProjectForm of={project.data} onSave={save} onClose={() => setEdits(false)} />}
    </Page>
  );
}

/** A button that shows the secret with which receivers check what the project's tasks send. */
function WebhookSecret({ path }: { path: string }) {
  const [secret, setSecret] = useState("");
  const show = async (renew: boolean) =>
    setSecret((await call<Schemas["WebhookSecret"]>("POST", `${path}/webhook-secret`, { renew })).secret);
  return (
    <>
      <Action label={t.secret} run={() => show(false)} />
      {secret && (
        <Modal title={t.secret} onClose={() => setSecret("")}>
          <p>{t.secretAbout}</p>
          <Copy key={secret} text={secret} />
          <footer>
            <button type="button" class="danger" onClick={() => ask(t.renewSecretWarning, t.renewSecret, () => show(true))}>
              {t.renewSecret}
            </button>
          </footer>
        </Modal>
      )}
    </>
  );
}

function Tasks({ path }: { path: string }) {
  const [filter, setFilter] = useState<Record<string, string>>({});
  const [turn, setTurn] = useState(0);
  const [creates, setCreates] = useState(false);
  const [opened, setOpened] = useState<string>();
  const reload = () => setTurn((before) => before + 1);
  useChanges({ type: "task" }, may("events:read"), reload);
  const create = async (values: FormData) => {
    await call("POST", `${path}/tasks`, { kind: textOf(values, "kind"), payload: jsonOf(values, "payload") ?? {} });
    setCreates(false);
    reload();
  };
  const columns: Column<Task>[] = [
    { title: t.kind, show: (task) => <Link text={task.kind} onOpen={() => setOpened(task.id)} /> },
    { title: t.status, show: (task) => <Badge kind={kindOf(task.status)}>{task.status}</Badge> },
    { title: t.progress, show: (task) => <progress aria-label={t.progress} max={1} value={task.status === "succeeded" ? 1 : task.progress} /> },
    { title: t.attempts, show: (task) => `${task.attempts} / ${task.retry.max_attempts ?? 3}` },
    { title: t.error, show: (task) => task.error?.detail ?? texts.none },
    { title: t.created, show: (task) => <Time at={task.created_at} /> },
    { title: texts.actions, show: (task) => <TaskActions task={task} onDone={reload} /> },
  ];
  return (
    <section aria-label={t.tasks}>
      <header class="page">
        <h2>{t.tasks}</h2>
        <button type="button" onClick={() => setCreates(true)}>
          {t.newTask}
        </button>
      </header>
      <Filters
        onChange={(values) => setFilter(queryOf(values))}
        fields={[
          { name: "status", label: t.status, type: "select", options: STATUSES },
          { name: "kind", label: t.kind },
        ]}
      />
      <PagedTable load={pagesOf<Task>(`${path}/tasks`, { sort: "-created_at", ...filter })} keys={[path, JSON.stringify(filter)]} turn={turn} columns={columns} caption={t.tasks} empty={t.noTasks} />
      {creates && (
        <Modal title={t.newTask} onClose={() => setCreates(false)}>
          <Form submit={texts.create} onSubmit={create} onCancel={() => setCreates(false)}>
            <Field name="kind" label={t.kind} required />
            <Field name="payload" label={t.payload} type="json" value="{}" />
          </Form>
        </Modal>
      )}
      {opened && <TaskDetails id={opened} turn={turn} onClose={() => setOpened(undefined)} />}
    </section>
  );
}

function TaskActions({ task, onDone }: { task: Task; onDone: () => void }) {
  const act = (verb: string) => call("POST", `/tasks/${task.id}/${verb}`).then(onDone);
  const goesOn = task.status === "queued" || task.status === "running";
  const remove = () =>
    ask(t.removeTask(task.kind), texts.delete, async () => {
      await call("DELETE", `/tasks/${task.id}`);
      onDone();
    });
  return (
    <div class="actions">
      {goesOn && <Action label={t.cancelTask} run={() => act("cancel")} />}
      {!goesOn && task.status !== "succeeded" && <Action label={t.retryTask} run={() => act("retry")} />}
      <button type="button" class="danger" onClick={remove}>
        {texts.delete}
      </button>
    </div>
  );
}

function TaskDetails({ id, turn, onClose }: { id: string; turn: number; onClose: () => void }) {
  const task = useLoad(() => call<Task>("GET", `/tasks/${id}`), [id, turn]);
  return (
    <Modal title={task.data?.kind ?? t.tasks} onClose={onClose}>
      <Show of={task}>
        {(data) => (
          <>
            {data.error && (
              <p role="alert">
                {data.error.code}: {data.error.detail}
              </p>
            )}
            <JsonTree value={data} />
          </>
        )}
      </Show>
    </Modal>
  );
}

function Members({ path, onChange }: { path: string; onChange: () => void }) {
  const members = useLoad(() => call<Schemas["MemberPage"]>("GET", `${path}/members`), [path]);
  const reload = () => {
    members.reload();
    onChange();
  };
  const set = async (values: FormData) => {
    const id = await findUser(textOf(values, "user"));
    await call("PUT", `${path}/members/${encodeURIComponent(id)}`, { role: textOf(values, "role") });
    reload();
  };
  const remove = async (member: Member) => {
    const place = `${path}/members/${encodeURIComponent(member.user_id)}`;
    await call("DELETE", place);
    reload();
    tell(t.memberRemoved, () => call("PUT", place, { role: member.role }).then(reload));
  };
  const columns: Column<Member>[] = [
    { title: t.user, show: (member) => <UserName id={member.user_id} /> },
    { title: t.role, show: (member) => member.role },
    { title: texts.actions, show: (member) => <Action label={t.removeMember} run={() => remove(member)} /> },
  ];
  return (
    <section aria-label={t.members}>
      <h2>{t.members}</h2>
      <Show of={members}>{({ items }) => <Table columns={columns} rows={items} caption={t.members} />}</Show>
      <h3>{t.addMember}</h3>
      <Form submit={texts.save} onSubmit={set}>
        <Field name="user" label={may("users:read") ? t.userName : t.userId} required />
        <Field name="role" label={t.role} type="select" options={ROLES} value="viewer" />
      </Form>
    </section>
  );
}
