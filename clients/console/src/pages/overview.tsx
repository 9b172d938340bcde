import { useEffect, useState } from "preact/hooks";
import { api, call, dataOf, type Problem } from "../api";
import { parse, type Sample, sum } from "../metrics";
import { may, me } from "../session";
import { texts } from "../texts";
import { Badge, Empty, Failed, Page, useLoad } from "../ui/basics";
import { Chart } from "../ui/chart";

const t = texts.overview;
const EVERY = 10_000;
const KEPT = 180;

async function readMetrics(): Promise<Sample[]> {
  return parse(await call<string>("GET", "/metrics?fleet=true"));
}

interface Figures {
  at: number;
  requests: number;
  seconds: number;
  failures: number;
  objects: number;
}

function measure(samples: Sample[]): Figures {
  return {
    at: Date.now() / 1000,
    requests: sum(samples, "aidevos_http_requests_total"),
    seconds: sum(samples, "aidevos_http_seconds_sum"),
    failures: sum(samples, "aidevos_failures_total"),
    objects: sum(samples, "aidevos_active_objects"),
  };
}

/** The rate of a counter between two samples; a counter that went back belongs to a new process. */
function rates(history: Figures[], name: "requests" | "failures"): (number | null)[] {
  return pairs(history, (before, after) => Math.max(0, after[name] - before[name]) / (after.at - before.at));
}

function pairs(history: Figures[], compute: (before: Figures, after: Figures) => number | null) {
  return history.slice(1).map((after, index) => compute(history[index] as Figures, after));
}

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
  const [history, setHistory] = useState<Figures[]>([]);
  const [error, setError] = useState<unknown>();
  useEffect(() => {
    const read = () =>
      readMetrics().then((samples) => {
        setError(undefined);
        setHistory((before) => [...before, measure(samples)].slice(-KEPT));
      }, setError);
    void read();
    const timer = setInterval(read, EVERY);
    return () => clearInterval(timer);
  }, []);
  const times = history.slice(1).map((figures) => figures.at);
  const latency = pairs(history, (before, after) => {
    const count = after.requests - before.requests;
    return count > 0 ? (after.seconds - before.seconds) / count : null;
  });
  return (
    <Page title={t.title}>
      <Wrong seen={history.length} />
      {error !== undefined && <Failed error={error} />}
      {history.length < 2 ? (
        <Empty>{t.waiting}</Empty>
      ) : (
        <div class="charts">
          <Chart title={t.requests} times={times} values={rates(history, "requests")} />
          <Chart title={t.latency} times={times} values={latency} />
          <Chart title={t.errors} times={times} values={rates(history, "failures")} />
          <Chart title={t.objects} times={times} values={history.slice(1).map((figures) => figures.objects)} />
        </div>
      )}
    </Page>
  );
}

/** What is wrong now, with a link to it. */
function Wrong({ seen }: { seen: number }) {
  const ready = useLoad(
    () => call("GET", "/health/ready").then(() => "", (problem: Problem) => problem.message),
    [seen],
  );
  const hosts = useLoad(() => dataOf(api.GET("/fleet")), [seen]);
  const waiting = { params: { query: { status: "dead", limit: 500 } } } as never;
  const letters = useLoad(
    () => (may("dead_letters:manage") ? dataOf(api.GET("/dead-letters", waiting)) : Promise.resolve({ items: [] })),
    [seen],
  );
  const unwell = hosts.data?.hosts.filter((host) => host.state !== "serving") ?? [];
  const count = letters.data?.items.length ?? 0;
  if (!ready.data && !unwell.length && !count)
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
              {count} {t.letters}
            </a>
          </li>
        )}
      </ul>
    </section>
  );
}
