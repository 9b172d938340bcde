import { useState } from "preact/hooks";
import { call, pagesOf, type Schemas } from "../api";
import { may } from "../session";
import { useFigures } from "../stream";
import { texts } from "../texts";
import { Action, Badge, kindOf, Page, Show, Time, useLoad } from "../ui/basics";
import { ask, Modal, tell } from "../ui/dialogs";
import { Filters } from "../ui/fields";
import { JsonTree } from "../ui/json";
import { type Column, PagedTable } from "../ui/table";
import { objectUrl } from "./objects";
import { queryOf } from "../ui/values";

type Letter = Schemas["DeadLetter"];
const t = texts.letters;

export function DeadLetters() {
  const [filter, setFilter] = useState<Record<string, string>>({ status: "dead" });
  const [turn, setTurn] = useState(0);
  const [opened, setOpened] = useState<string>();
  const reload = () => setTurn((before) => before + 1);
  const replay = async (letter: Letter) => {
    await call("POST", `/dead-letters/${letter.id}/replay`);
    tell(outcomeOf(await settled(letter.id)));
    reload();
  };
  const remove = (letter: Letter) =>
    ask(t.remove, texts.delete, async () => {
      await call("DELETE", `/dead-letters/${letter.id}`);
      reload();
    });
  const columns: Column<Letter>[] = [
    { title: t.at, show: (letter) => <Time at={letter.at} /> },
    { title: t.kind, show: (letter) => letter.kind },
    { title: t.status, show: (letter) => <Badge kind={kindOf(letter.status)}>{letter.status}</Badge> },
    { title: t.source, show: (letter) => <ObjectName id={letter.source} /> },
    { title: t.subject, show: (letter) => <Link text={letter.subject} onOpen={() => setOpened(letter.id)} /> },
    { title: t.reason, show: (letter) => `${letter.code}: ${letter.detail}` },
    {
      title: texts.actions,
      show: (letter) => (
        <div class="actions">
          <Action label={t.replay} run={() => replay(letter)} />
          <button type="button" class="danger" onClick={() => remove(letter)}>
            {texts.delete}
          </button>
        </div>
      ),
    },
  ];
  // Letters have no events; the fleet's figures say how many were buried.
  const { latest } = useFigures(may("fleet:read"));
  return (
    <Page title={t.title} actions={<button type="button" class="secondary" onClick={reload}>{texts.refresh}</button>}>
      <Filters
        onChange={(values) => setFilter(queryOf(values))}
        fields={[
          { name: "status", label: t.status, type: "select", options: ["", "dead", "replaying", "replayed"], value: "dead" },
          { name: "kind", label: t.kind, type: "select", options: ["", "event", "tell", "alarm"] },
          { name: "source", label: t.source, hint: texts.objects.openHint },
        ]}
      />
      <PagedTable load={pagesOf<Letter>("/dead-letters", filter)} keys={[JSON.stringify(filter)]} turn={[turn, latest?.dead_letters].join()} columns={columns} caption={t.title} empty={t.empty} />
      {opened && <Opened id={opened} onClose={() => setOpened(undefined)} />}
    </Page>
  );
}

/** How often, and with how many milliseconds between, a letter is read until its replay has ended. */
const READS = 30;
const PAUSE = 300;

/** Return a letter once its replay has ended, or as it is after ten seconds. */
async function settled(id: string): Promise<Letter> {
  for (let left = READS; ; left--) {
    const letter = await call<Letter>("GET", `/dead-letters/${id}`);
    if (letter.status !== "replaying" || left === 0) return letter;
    await new Promise((done) => setTimeout(done, PAUSE));
  }
}

function outcomeOf(letter: Letter): string {
  if (letter.status === "dead") return t.diedAgain(`${letter.code}: ${letter.detail}`);
  return letter.status === "replayed" ? t.arrived : t.replayed;
}

/** An object's ID with a link to its page; whatever else it is, as it is. */
function ObjectName({ id }: { id: string }) {
  return id.includes(":") ? <a href={objectUrl(id)}>{id}</a> : <>{id}</>;
}

/** A link to the object that a message was for, unless it was for nobody in particular. */
function Target({ subject }: { subject: string }) {
  const [, type, id] = /^do\.([^.]+)\.([^.]+)\./.exec(subject) ?? [];
  return type && id ? (
    <p>
      {t.target} <ObjectName id={`${type}:${id}`} />
    </p>
  ) : null;
}

export function Link({ text, onOpen }: { text: string; onOpen: () => void }) {
  return (
    <button type="button" class="link" onClick={onOpen}>
      {text}
    </button>
  );
}

function Opened({ id, onClose }: { id: string; onClose: () => void }) {
  const letter = useLoad(() => call<Letter>("GET", `/dead-letters/${id}`), [id]);
  return (
    <Modal title={t.letter} onClose={onClose}>
      <Show of={letter}>
        {(data) => (
          <>
            <Target subject={data.subject} />
            <JsonTree value={data} />
          </>
        )}
      </Show>
    </Modal>
  );
}
