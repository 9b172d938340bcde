import { useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { call, ifMatch, Problem, type Schemas } from "../api";
import { texts } from "../texts";
import { Empty, Show, Time, useLoad } from "../ui/basics";
import { ask, Modal, tell } from "../ui/dialogs";
import { Form } from "../ui/fields";
import { Differences } from "../ui/json";
import { UserName } from "../ui/people";
import { type Column, Table } from "../ui/table";
import { textOf } from "../ui/values";
import { Link } from "./letters";
import { objectUrl } from "./objects";

type Version = Schemas["ObjectVersion"];
type Shown = Schemas["DurableObject"];
const t = texts.versions;

/** The kept versions of an object's state: what each differs in from today's, and the ways back to it. */
export function Versions({ path, current, onRestored }: { path: string; current: Shown; onRestored: () => void }) {
  const versions = useLoad(() => readVersions(`${path}/versions`), [path, current.version]);
  const [compared, setCompared] = useState<unknown>();
  const [forked, setForked] = useState<number>();
  const compare = async (version: number) => setCompared((await call<Schemas["VersionState"]>("GET", `${path}/versions/${version}`)).state);
  const restore = (version: number) =>
    ask(t.restoreWarning(version), t.restore, async () => {
      await call("POST", `${path}/versions/${version}/restore`, undefined, ifMatch(current));
      tell(texts.data.restored(version));
      onRestored();
    });
  const columns: Column<Version>[] = [
    { title: texts.objects.version, show: (row) => row.version },
    { title: t.method, show: (row) => row.method },
    { title: t.caller, show: (row) => <UserName id={row.caller} /> },
    { title: texts.letters.at, show: (row) => <Time at={row.at} /> },
    {
      title: texts.actions,
      show: ({ version }) => (
        <div class="actions">
          <Link text={texts.data.compare} onOpen={() => void compare(version)} />
          <Link text={t.restore} onOpen={() => restore(version)} />
          <Link text={t.fork} onOpen={() => setForked(version)} />
        </div>
      ),
    },
  ];
  return (
    <Show of={versions}>
      {(rows) => (
        <>
          {rows.length ? <Table columns={columns} rows={rows} caption={t.title} /> : <Empty>{t.none}</Empty>}
          {compared !== undefined && <Differences before={compared} after={current.state} />}
          {forked !== undefined && <Fork path={path} version={forked} onClose={() => setForked(undefined)} />}
        </>
      )}
    </Show>
  );
}

/** Return the newest versions, or none if the type keeps no history. */
async function readVersions(path: string): Promise<Version[]> {
  try {
    return (await call<{ items: Version[] }>("GET", path)).items;
  } catch (error) {
    if (error instanceof Problem && (error.status === 404 || error.status === 409)) return [];
    throw error;
  }
}

function Fork({ path, version, onClose }: { path: string; version: number; onClose: () => void }) {
  const { route } = useLocation();
  const fork = async (values: FormData) => {
    const name = textOf(values, "name");
    const made = await call<Shown>("POST", `${path}/versions/${version}/fork`, name ? { name } : {});
    onClose();
    route(objectUrl(made.object_id));
  };
  return (
    <Modal title={`${t.fork} ${version}`} onClose={onClose}>
      <Form submit={t.fork} onSubmit={fork} onCancel={onClose} fields={[{ name: "name", label: texts.objects.name }]} />
    </Modal>
  );
}
