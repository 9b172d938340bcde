import { useState } from "preact/hooks";
import { type Following, useEvents } from "../stream";
import { texts } from "../texts";
import { Badge, Empty, Page, Time } from "../ui/basics";
import { Filters } from "../ui/fields";
import { JsonTree } from "../ui/json";
import { objectUrl } from "./objects";
import { queryOf } from "../ui/values";

const t = texts.events;

export function EventList({ following, empty }: { following: Following; empty: string }) {
  return (
    <>
      {following.note && <p role="status">{following.note}</p>}
      {following.events.length === 0 && <Empty>{empty}</Empty>}
      <ol class="events">
        {following.events.map((event) => (
          <li key={event.id}>
            <Time at={event.time} /> <strong>{event.type}</strong> <Source of={event.source} />
            <JsonTree value={event.data} depth={2} />
          </li>
        ))}
      </ol>
    </>
  );
}

/** The object that something came from: `/durable-objects/<type>:<id>`, `<type>:<id>` or the like. */
export function Source({ of }: { of: string }) {
  const id = of.split("/").pop() ?? of;
  return id.includes(":") ? <a href={objectUrl(id)}>{id}</a> : <>{of}</>;
}

export function Events() {
  const [filter, setFilter] = useState<Record<string, string>>({});
  const [on, setOn] = useState(true);
  const following = useEvents(filter, on);
  const actions = (
    <>
      <button type="button" class="secondary" onClick={following.clear}>
        {t.clear}
      </button>
      <button type="button" onClick={() => setOn(!on)}>
        {on ? t.stop : t.start}
      </button>
    </>
  );
  const fields = [
    { name: "type", label: t.filterType },
    { name: "name", label: t.filterName },
    { name: "id", label: t.filterId },
  ];
  return (
    <Page title={t.title} actions={actions}>
      <Filters fields={fields} onChange={(values) => setFilter(queryOf(values))} />
      <p role="status">
        <Badge kind={on ? "good" : ""}>{on ? t.following : t.stopped}</Badge>
      </p>
      <EventList following={following} empty={t.empty} />
    </Page>
  );
}
