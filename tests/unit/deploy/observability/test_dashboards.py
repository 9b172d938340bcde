"""The dashboards and the rules: every metric and label in them is one of the product's, and Grafana can draw them."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from aidevos.observability import metrics
from aidevos.observability.instruments import Family
from tests.support.paths import ROOT
from tests.support.promql import (
    DASHBOARDS,
    OBSERVABILITY,
    Expression,
    dashboard_expressions,
    panels,
    rule_expressions,
    rules,
    run,
    uses,
)

# What Prometheus adds to each series, and the labels of its own metrics.
TARGET = {"job", "instance", "service", "replica"}
FOREIGN = {
    "up": set[str](),
    "ALERTS": {"alertstate"},
    "process_resident_memory_bytes": set[str](),
    "process_cpu_seconds_total": set[str](),
    "process_start_time_seconds": set[str](),
}
EXPRESSIONS = [*rule_expressions(), *dashboard_expressions()]
PROVISIONED = OBSERVABILITY / "grafana/provisioning"


def known() -> dict[str, set[str]]:
    """Return the labels of every series that a fleet has in Prometheus, by name."""
    found = dict(FOREIGN)
    for metric in vars(metrics).values():
        if isinstance(metric, Family):
            labels = set(metric.label_names)
            parts = {"_bucket": {"le"}, "_sum": set[str](), "_count": set[str]()}
            suffixes = parts if metric.kind == "histogram" else {"": set[str]()}
            found |= {metric.name + suffix: labels | more for suffix, more in suffixes.items()}
    # A recorded series has the labels by which its name says it is grouped.
    found |= {name: set(name.split(":")[0].split("_")) for name in (rule.get("record") for rule in rules()) if name}
    return found


KNOWN = known()


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda expression: expression.where)
def test_every_metric_and_label_is_one_of_the_product(expression: Expression) -> None:
    used = uses(expression.text)
    has = TARGET.union(*(KNOWN.get(name, set()) for name in used.selected))

    assert used.selected.keys() <= KNOWN.keys()
    for name, labels in used.selected.items():
        assert labels <= KNOWN[name] | TARGET, name
    assert used.grouped | expression.shown <= has


def test_prometheus_can_read_every_expression_of_the_dashboards(promtool: str, tmp_path: Path) -> None:
    recorded = [{"record": "tried", "expr": each.text} for each in dashboard_expressions()]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": recorded}]}))

    checked = run(promtool, "check", "rules", "--lint=none", tmp_path / "rules.yml")

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_dashboard_has_panels_side_by_side_that_say_what_they_show(file: Path) -> None:
    dashboard = json.loads(file.read_text())
    places = [panel["gridPos"] for panel in dashboard["panels"]]

    assert max(Counter(panel["id"] for panel in dashboard["panels"]).values()) == 1
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert not [pair for pair in combinations(places, 2) if overlap(*pair)]
    for panel in panels(file):
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(target["expr"] for target in panel["targets"])


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in ("xw", "yh"))


def test_the_pages_name_panels_that_are_there() -> None:
    titles = {panel["title"].split(" (")[0] for file in DASHBOARDS for panel in panels(file)}
    names = {json.loads(file.read_text())["title"].removeprefix("AIDevOS: ") for file in DASHBOARDS}

    for page in (ROOT / "docs/operations/alerts").glob("*.md"):
        for line in page.read_text().splitlines():
            for name in re.findall(r"\*([A-Z][^*]+)\*", line) if "dashboard" in line else ():
                assert name in titles | names, f"{page.name}: {name}"


def test_grafana_finds_the_dashboards_and_opens_the_trace_of_an_exemplar() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    sources = load("datasources")["datasources"]
    (provider,) = load("dashboards")["providers"]
    (destination,) = sources[0]["jsonData"]["exemplarTraceIdDestinations"]
    mounts = dict(volume.split(":")[:2] for volume in compose["grafana"]["volumes"])

    assert mounts["./deploy/observability/grafana/dashboards"] == provider["options"]["path"]
    assert destination["datasourceUid"] == sources[1]["uid"]
    assert destination["name"] == "trace_id"
    assert {source["url"].split("/")[2].split(":")[0] for source in sources} <= compose.keys()
    assert "--enable-feature=exemplar-storage" in compose["prometheus"]["command"]


def load(what: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PROVISIONED / what / "aidevos.yml").read_text())
    return found
