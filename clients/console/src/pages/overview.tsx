import { call, type PageOf, type Problem, type Schemas } from "../api";
import { may, me } from "../session";
import { type Figures, useFigures } from "../stream";
import { texts } from "../texts";
import { Badge, Empty, Page, useLoad } from "../ui/basics";
import { Chart } from "../ui/chart";

const t = texts.overview;
const COUNTED = 500;

export function Overview() {
  if (!may("fleet:read"))
    return (
      <Page title={t.title}>
        <p>
          {t.welcome}, {me.value?.user.full_name || me.value?.user.username}. {t.forUsers}
        </p>
      </Page>
    );
  return <Operation />;
}

function Operation() {
  const { history, latest, note } = useFigures();
  const times = history.map((figures) => Date.parse(figures.at) / 1000);
  const milliseconds = history.map(({ latency }) => (latency === null ? null : latency * 1000));
  return (
    <Page title={t.title}>
      <Wrong latest={latest} />
      {note && <p role="status">{note}</p>}
      {history.length < 2 ? (
        <Empty>{t.waiting}</Empty>
      ) : (
        <div class="charts">
          <Chart title={t.requests} times={times} values={history.map((figures) => figures.requests)} />
          <Chart title={t.latency} times={times} values={milliseconds} />
          <Chart title={t.errors} times={times} values={history.map((figures) => figures.failures)} />
          <Chart title={t.objects} times={times} values={history.map((figures) => figures.objects)} />
        </div>
      )}
    </Page>
  );
}

const countLetters = async () =>
  may("dead_letters:manage") ? (await call<PageOf<unknown>>("GET", `/dead-letters?status=dead&limit=${COUNTED}`)).items.length : 0;

const countFailingHooks = async () =>
  may("webhooks:manage")
    ? (await call<PageOf<Schemas["WebhookInfo"]>>("GET", `/webhooks?limit=${COUNTED}`)).items.filter((hook) => hook.failing_since).length
    : 0;

/** What is wrong now, with a link to it. It is looked up again when the figures have changed. */
function Wrong({ latest }: { latest: Figures | undefined }) {
  const seen = latest && [latest.processes.length, latest.problems, latest.dead_letters].join();
  const ready = useLoad(() => call("GET", "/health/ready").then(() => "", (problem: Problem) => problem.message), [seen]);
  const hosts = useLoad(() => call<Schemas["FleetHosts"]>("GET", "/fleet"), [seen]);
  const letters = useLoad(countLetters, [seen]);
  const hooks = useLoad(countFailingHooks, [seen]);
  const unwell = hosts.data?.hosts.filter((host) => host.state !== "serving") ?? [];
  const count = letters.data ?? 0;
  if (!ready.data && !unwell.length && !count && !hooks.data)
    return (
      <p>
        <Badge kind="good">{t.healthy}</Badge>
      </p>
    );
  return (
    <section class="wrong" aria-label={t.unhealthy}>
      <h2>{t.unhealthy}</h2>
      <ul>
        {ready.data && (
          <li>
            <a href="/console/fleet">{ready.data}</a>
          </li>
        )}
        {unwell.length > 0 && (
          <li>
            <a href="/console/fleet">
              {unwell.length} {t.hostsAway}: {unwell.map((host) => `${host.service}-${host.replica}`).join(", ")}
            </a>
          </li>
        )}
        {count > 0 && (
          <li>
            <a href="/console/dead-letters">
              {t.letters(count === COUNTED ? `${count}+` : `${count}`)}
            </a>
          </li>
        )}
        {hooks.data ? (
          <li>
            <a href="/console/webhooks">{t.webhooks(hooks.data)}</a>
          </li>
        ) : null}
      </ul>
    </section>
  );
}
