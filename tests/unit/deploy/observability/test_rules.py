"""The rules of Prometheus: each alert fires when it should and only then, and has a page for whoever is called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.support.paths import ROOT
from tests.support.promql import OBSERVABILITY, RULES, rules, run

ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


class Case(NamedTuple):
    """Series as promtool takes them (a value for each minute), and the alerts that fire in the last minute."""

    series: dict[str, str]
    fire: tuple[str, ...] = ()
    minutes: int = 20
    watched: bool = True


def buckets(metric: str, bound: str, within: str, beyond: str, labels: str = "") -> dict[str, str]:
    """Return a histogram of which `within` observations are at most `bound`, and `beyond` ones at most ten times it."""
    return {
        f'{metric}_bucket{{{labels}le="{bound}"}}': within,
        f'{metric}_bucket{{{labels}le="{float(bound) * 10}"}}': beyond,
        f'{metric}_bucket{{{labels}le="+Inf"}}': beyond,
        f"{metric}_count{{{labels.rstrip(',')}}}": beyond,
    }


def slow(metric: str, bound: str, labels: str = "") -> dict[str, str]:
    return buckets(metric, bound, "0+8x60", "0+10x60", labels)


def fast(metric: str, bound: str, labels: str = "") -> dict[str, str]:
    return buckets(metric, bound, "0+10x60", "0+10x60", labels)


def answers(well: int, badly: int) -> dict[str, str]:
    """Return requests per minute to a route by how they are answered, and ones of a probe that doesn't count."""
    name = "aidevos_http_requests_total"
    return {
        f'{name}{{route="/a",status="200"}}': f"0+{well}x60",
        f'{name}{{route="/a",status="503"}}': f"0+{badly}x60",
        f'{name}{{route="/health/ready",status="503"}}': "0+100x60",
    }


def replies(quick: int, slowly: int) -> dict[str, str]:
    """Return requests per minute by how long they take, and a live stream, which doesn't count."""
    name = "aidevos_http_seconds"
    return {
        f'{name}_bucket{{route="/a",le="0.5"}}': f"0+{quick}x60",
        f'{name}_count{{route="/a"}}': f"0+{quick + slowly}x60",
        f'{name}_bucket{{route="/events",le="0.5"}}': "0x60",
        f'{name}_count{{route="/events"}}': "0+50x60",
    }


OWNED = 'aidevos_partitions_owned{type="counter",instance="%s"}'
# The first one of its kind makes a new series, whose increase Prometheus can't see.
FIRST, LONG_AGO = "_x9 1x20", "7x40"
CASES = {
    "a process that doesn't answer": Case({'up{instance="b"}': "1x10 0x10"}, ("TargetDown",)),
    "a process that is back": Case({'up{instance="b"}': "1x10 0 0 1x10"}),
    "the last process of a service": Case({'up{instance="b",service="b"}': "1x10 _x20"}, ("ServiceGone",)),
    "one process of two": Case({'up{instance="b",service="b"}': "1x10 _x20", 'up{instance="c",service="b"}': "1x30"}),
    "nothing is watched": Case({}, ("NoTargets",), watched=False),
    "a death": Case({'aidevos_process_deaths_total{service="objects"}': FIRST}, ("ProcessDied",)),
    "deaths long ago": Case({'aidevos_process_deaths_total{service="objects"}': LONG_AGO}, minutes=30),
    "five deaths": Case({'aidevos_process_deaths_total{service="objects"}': "0x9 5x20"}, ("ProcessDied", "CrashLoop")),
    "a late loop": Case(slow("aidevos_loop_lag_seconds", "0.25"), ("LoopLag",)),
    "a punctual loop": Case(fast("aidevos_loop_lag_seconds", "0.25")),
    "half of the partitions": Case({OWNED % "a": "64x10 32x20"}, ("PartitionsWithoutOwner",)),
    "no host is left": Case({OWNED % "a": "64x10 _x20"}, ("PartitionsWithoutOwner",)),
    "partitions that move": Case({OWNED % "a": "64x10 32x20", OWNED % "b": "0x10 32x20"}),
    "a lost lease": Case({"aidevos_lease_lapses_total": "0x9 1x20"}, ("LeaseLapsed",)),
    "slow commits": Case(slow("aidevos_commit_seconds", "0.5"), ("CommitsSlow",)),
    "fast commits": Case(fast("aidevos_commit_seconds", "0.5")),
    "an unknown commit": Case({'aidevos_commits_total{outcome="unknown",type="a"}': FIRST}, ("CommitsUnknown",)),
    "unknown commits long ago": Case({'aidevos_commits_total{outcome="unknown",type="a"}': LONG_AGO}, minutes=30),
    "a failed commit": Case({'aidevos_commits_total{outcome="failed",type="a"}': FIRST}, ("CommitsFailed",)),
    "many fenced commits": Case({'aidevos_commits_total{outcome="fenced",type="a"}': "0x9 9x20"}, ("CommitsFenced",)),
    "a few fenced commits": Case({'aidevos_commits_total{outcome="fenced",type="a"}': "0x9 3x20"}),
    "written commits": Case({'aidevos_commits_total{outcome="written",type="a"}': "0+600x20"}),
    "a stuck outbox": Case({'aidevos_outbox_oldest_seconds{type="a"}': "0x9 90x20"}, ("OutboxStuck",)),
    "a busy outbox": Case({'aidevos_outbox_oldest_seconds{type="a"}': "5x30"}),
    "late events": Case(slow("aidevos_event_lag_seconds", "30"), ("EventLag",)),
    "events in time": Case(fast("aidevos_event_lag_seconds", "30")),
    "late tells": Case(slow("aidevos_tell_lag_seconds", "30"), ("TellLag",)),
    "tells in time": Case(fast("aidevos_tell_lag_seconds", "30")),
    "a dead letter": Case({'aidevos_dead_letters_total{kind="event"}': FIRST}, ("DeadLetters",)),
    "dead letters long ago": Case({'aidevos_dead_letters_total{kind="event"}': LONG_AGO}, minutes=30),
    "late alarms": Case(slow("aidevos_alarm_lateness_seconds", "30"), ("AlarmsLate",)),
    "alarms in time": Case(fast("aidevos_alarm_lateness_seconds", "30")),
    "webhooks that fail": Case(
        {
            'aidevos_webhook_deliveries_total{outcome="failed"}': "0+9x60",
            'aidevos_webhook_deliveries_total{outcome="delivered"}': "0+1x60",
        },
        ("WebhooksFail",),
        minutes=45,
    ),
    "webhooks that arrive": Case(
        {
            'aidevos_webhook_deliveries_total{outcome="failed"}': "0+1x60",
            'aidevos_webhook_deliveries_total{outcome="delivered"}': "0+9x60",
        },
        minutes=45,
    ),
    "tasks without a worker": Case({"aidevos_tasks_queued": "5x30", "aidevos_tasks_running": "0x30"}, ("TasksWait",)),
    "tasks that a worker takes": Case({"aidevos_tasks_queued": "5x30", "aidevos_tasks_running": "1x30"}),
    "refusals": Case({'aidevos_failures_total{door="http",code="overloaded"}': "0+120x30"}, ("Overloaded",)),
    "a few refusals": Case({'aidevos_failures_total{door="http",code="overloaded"}': "0+6x30"}),
    "crowded objects": Case(slow("aidevos_mailbox_wait_seconds", "1", 'type="a",'), ("MailboxWait",)),
    "quick objects": Case(fast("aidevos_mailbox_wait_seconds", "1", 'type="a",')),
    "passwords that wait": Case({"aidevos_hashing_queue": "0x9 50x20"}, ("HashingQueue",)),
    "a few passwords": Case({"aidevos_hashing_queue": "8x30"}),
    "an unknown error": Case({'aidevos_failures_total{door="nats",code="internal"}': FIRST}, ("InternalErrors",)),
    "a known error": Case({'aidevos_failures_total{door="nats",code="not-found"}': FIRST}),
    "one request in twenty fails": Case(answers(95, 5), ("ErrorBudgetFast", "ErrorBudgetSlow"), minutes=25),
    "four requests in a thousand fail": Case(answers(996, 4), ("ErrorBudgetSlow",), minutes=25),
    "one request in two thousand fails": Case(answers(1999, 1), minutes=25),
    "one request in four is slow": Case(replies(75, 25), ("LatencyBudgetFast", "LatencyBudgetSlow"), minutes=25),
    "four requests in a hundred are slow": Case(replies(96, 4), ("LatencyBudgetSlow",), minutes=25),
    "one request in two hundred is slow": Case(replies(199, 1), minutes=25),
}


def promtool_test(name: str, case: Case) -> dict[str, Any]:
    series = {**case.series, **({'up{instance="a"}': "1x60"} if case.watched else {})}
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": _of_fleet(each), "values": values} for each, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{case.minutes}m",
                "exp_samples": [{"labels": f'{{alertname="Aidevos{alert}"}}', "value": 1} for alert in case.fire],
            }
        ],
    }


def _of_fleet(series: str) -> str:
    """Return the series with the fleet's job among its labels."""
    name, _, labels = series.partition("{")
    return f'{name}{{job="aidevos",{labels or "}"}'


@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus.compose.yml"])
def test_prometheus_accepts_the_configuration_and_its_rules(promtool: str, name: str) -> None:
    checked = run(promtool, "check", "config", OBSERVABILITY / name)

    assert checked.returncode == 0, checked.stderr
    assert "2 rule files found" in checked.stdout


def test_each_alert_fires_when_it_should_and_only_then(promtool: str, tmp_path: Path) -> None:
    document = {
        "rule_files": [str(file) for file in sorted(RULES.glob("*.yml"))],
        "evaluation_interval": "1m",
        "tests": [promtool_test(name, case) for name, case in CASES.items()],
    }
    (tmp_path / "cases.yml").write_text(yaml.safe_dump(document, sort_keys=False, width=1000))

    tested = run(promtool, "test", "rules", tmp_path / "cases.yml")

    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_alert_is_tried() -> None:
    assert {f"Aidevos{alert}" for case in CASES.values() for alert in case.fire} == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_says_how_urgent_it_is_and_has_a_page_that_says_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    page = (ROOT / rule["annotations"]["runbook_url"]).read_text()

    assert rule["labels"]["severity"] in ("page", "ticket")
    assert name in page.splitlines()[0]
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == ["What it means", "How to confirm it", "What to do"]


def test_each_page_is_of_an_alert_and_in_the_index() -> None:
    pages = ROOT / "docs/operations/alerts"
    index = (pages / "index.md").read_text()
    urls = {rule["annotations"]["runbook_url"] for rule in ALERTS.values()}

    assert {str(page.relative_to(ROOT)) for page in pages.glob("*.md") if page.name != "index.md"} == urls
    for url in urls:
        assert f"({Path(url).name})" in index
