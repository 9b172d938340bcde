"""The PromQL in the rules and the dashboards of `deploy/observability`, and the names that it uses."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser
import yaml

from tests.support.paths import ROOT

OBSERVABILITY = ROOT / "deploy/observability"
RULES = OBSERVABILITY / "rules"
DASHBOARDS = sorted((OBSERVABILITY / "grafana/dashboards").glob("*.json"))
# What Grafana puts in place of its variables.
_VARIABLES = {"$__rate_interval": "1m", "$job": "aidevos", "$type": ".*", "$route": ".*"}
_LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


class Expression(NamedTuple):
    """PromQL, where it stands, and the labels that the text beside it shows."""

    where: str
    text: str
    shown: frozenset[str]


class Uses(NamedTuple):
    """The labels by which an expression selects, by metric, and those by which it groups."""

    selected: dict[str, set[str]]
    grouped: set[str]


def rules() -> Iterator[dict[str, Any]]:
    """Return the recording rules and the alert rules."""
    for file in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]


def rule_expressions() -> Iterator[Expression]:
    for rule in rules():
        notes = " ".join(rule.get("annotations", {}).values())
        shown = re.findall(r"\$labels\.(\w+)", notes)
        yield Expression(rule.get("alert") or rule["record"], rule["expr"], frozenset(shown))


def panels(dashboard: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(dashboard.read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def dashboard_expressions() -> Iterator[Expression]:
    for file in DASHBOARDS:
        for panel in panels(file):
            for target in panel["targets"]:
                shown = re.findall(r"{{(\w+)}}", target["legendFormat"])
                yield Expression(f"{file.stem}: {panel['title']}", _fill_in(target["expr"]), frozenset(shown))
        for variable in json.loads(file.read_text())["templating"]["list"]:
            if asked := _LABEL_VALUES.fullmatch(variable["query"]):
                name = f"{file.stem}: ${variable['name']}"
                yield Expression(name, _fill_in(asked[1]), frozenset({asked[2]}))


def uses(expression: str) -> Uses:
    """Return which metrics and labels an expression uses."""
    found = Uses({}, set())

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            names = {matcher.name for matcher in node.matchers.matchers}
            found.selected.setdefault(node.name, set()).update(names)
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            found.grouped.update(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def run(*command: object) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=100)


def _fill_in(text: str) -> str:
    for variable, value in _VARIABLES.items():
        text = text.replace(variable, value)
    return text
