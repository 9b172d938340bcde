import { call, type Schemas } from "../api";
import { texts } from "../texts";
import { Bytes, Empty, Show, Time, useLoad } from "../ui/basics";
import { type Column, Table } from "../ui/table";

type Alarm = Schemas["PendingAlarm"];
type Message = Schemas["PendingMessage"];
const t = texts.pending;

const ALARMS: Column<Alarm>[] = [
  { title: t.alarm, show: (alarm) => alarm.name },
  { title: t.rings, show: (alarm) => <Time at={alarm.at} /> },
  { title: t.every, show: (alarm) => (alarm.every === null ? texts.none : t.seconds(alarm.every)) },
  { title: t.failed, show: (alarm) => alarm.failed },
];

const OUTBOX: Column<Message>[] = [
  { title: t.kind, show: (message) => message.kind },
  { title: t.subject, show: (message) => message.subject },
  { title: t.since, show: (message) => <Time at={message.at} /> },
  { title: t.size, show: (message) => <Bytes count={message.size} /> },
];

/** What an object has yet to do. `turn` changes whenever the object may have changed. */
export function Pending({ path, turn }: { path: string; turn: unknown }) {
  const pending = useLoad(() => call<Schemas["PendingWork"]>("GET", `${path}/pending`), [path, turn]);
  return (
    <Show of={pending}>
      {({ alarms, outbox, outbox_count }) => (
        <div class="columns">
          <section aria-label={t.alarms}>
            <h2>{t.alarms}</h2>
            {alarms.length ? <Table columns={ALARMS} rows={alarms} caption={t.alarms} /> : <Empty>{t.noAlarms}</Empty>}
          </section>
          <section aria-label={t.outbox}>
            <h2>{t.outbox}</h2>
            {outbox.length ? <Table columns={OUTBOX} rows={outbox} caption={t.outbox} /> : <Empty>{t.noOutbox}</Empty>}
            {outbox_count > outbox.length && <p class="muted">{t.more(outbox_count - outbox.length)}</p>}
          </section>
        </div>
      )}
    </Show>
  );
}
