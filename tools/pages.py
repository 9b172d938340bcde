"""Generates the pages of `docs/` that come from code; run `python -m tools.pages`."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import msgspec
from typer import Context

from aidevos import settings, variables
from aidevos.cli.commands import COMMANDS, Pending
from aidevos.contracts.errors import CODES, Code
from aidevos.contracts.patterns import whole
from aidevos.observability import metrics
from aidevos.observability.instruments import Family
from services.http_gateway.endpoints.routers import ROUTERS

DOCS = Path(__file__).parents[1] / "docs"
WRITTEN = "<!-- Written by `python -m tools.pages`. -->\n"

PERMISSIONS = f"""\
# Who may call what

{WRITTEN}
Each operation of the HTTP API, and who may call it.

| request | callers | rule |
| --- | --- | --- |
"""

ERRORS = f"""\
# Errors

{WRITTEN}
Every error is a problem document ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)), over HTTP and over NATS:

```json
{{
  "type": "/docs/errors#not-found",
  "title": "There is nothing here",
  "status": 404,
  "code": "not-found",
  "detail": "there is no object counter:clicks"
}}
```

- `code` is stable: decide by it, not by `status`, `title` or `detail`.
- `type` is relative to the gateway, which serves this catalogue at `/docs/errors`.
- `detail` says what was wrong, in a sentence for people. `field` is the path of the value that was refused.
- `retry_after` is in seconds. `error_id` finds the log line of an `internal` error. `challenge` completes a login.
- "Retryable" means that the same request may succeed later. Repeat it under the same `Request-Id` or
  `Idempotency-Key`: it takes effect once.
- Types of objects may define codes of their own, with a status from 400 to 499. Of the examples, `account` has
  `insufficient-funds` (409): the balance is smaller than the transfer.
- The Python client and the command line report an answer that no fleet gives, such as a proxy's page, as
  `unexpected-answer`.

| code | status | retryable |
| --- | --- | --- |
"""

_SECRETS = [
    f"`{settings.PREFIX}{field.name.upper()}`"
    for field in msgspec.structs.fields(settings.Settings)
    if variables.is_secret(field)
]
_IN_FILES = textwrap.fill(
    "- A secret may stand in a file, whose name the variable with `_FILE` has, such as `AIDEVOS_ADMIN_PASSWORD_FILE`. "
    f"This works for {', '.join(_SECRETS[:-1])} and {_SECRETS[-1]}. A line end at the end of the file doesn't count.",
    width=120,
    subsequent_indent="  ",
)
SETTINGS = f"""\
# Settings

{WRITTEN}
A setting is an environment variable, which a process reads once, when it starts. If a value can't be used, the process
prints one line that names the variable, and exits with status 2. So it does if a variable is called nearly like a
setting, and names the setting. An empty value counts as not set.

- A time is in seconds, or has units: `500ms`, `90s`, `15m`, `1h30m`, `7d`, `2w`.
- A size is in the unit of its setting, or has one: `8MB` is 8,000,000 bytes, and `8MiB` is 8,388,608.
{_IN_FILES}

`aidevos settings` prints every setting with its value and where that comes from.
"""
HEADER = "| variable | default | unit | bounds | meaning |\n| --- | --- | --- | --- | --- |\n"
METRICS = "operations/metrics.md"
COMMAND_LINE = "command-line.md"
METRICS_HEADER = "| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n"
END = whole("").removeprefix("^")
# What Typer adds to an argument whose values are texts.
_is_text = re.compile(r" <(str|list\[str\])>")
# Larger units in which the page also gives a default.
SCALES = {
    "seconds": {"d": 86_400, "h": 3600, "min": 60},
    "bytes": {"GiB": 2**30, "MiB": 2**20},
    "KiB": {"MiB": 2**10},
}


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    return {
        "permissions.md": permissions_page(),
        "errors.md": errors_page(),
        "settings.md": settings_page(),
        METRICS: metrics_page(),
        COMMAND_LINE: command_line_page(),
    }


def permissions_page() -> str:
    """Return the page of all operations and their callers, from the rows of the gateway's routers."""
    rows = sorted((row for router in ROUTERS for row in router.operations), key=lambda row: (row.path, row.method))
    lines = [f"| `{row.method} {row.path}` | {row.access and row.access.value} | {row.needs} |\n" for row in rows]
    return PERMISSIONS + "".join(lines)


def errors_page() -> str:
    """Return the catalogue of errors."""
    return ERRORS + "".join(map(_error_row, CODES.items())) + "".join(map(_error_entry, CODES.items()))


def _error_row(entry: tuple[str, Code]) -> str:
    name, code = entry
    return f"| [{name}](#{name}) | {code.status} | {'yes' if code.retryable else 'no'} |\n"


def _error_entry(entry: tuple[str, Code]) -> str:
    name, code = entry
    return f"\n## {name}\n\n{code.title} (status {code.status}).\n\n- When: {code.when}\n- What to do: {code.remedy}\n"


def metrics_page() -> str:
    """Return the page on metrics, with the table of all metrics at its end."""
    text = (DOCS / METRICS).read_text().partition(WRITTEN)[0]
    found = [each for each in vars(metrics).values() if isinstance(each, Family)]
    return f"{text}{WRITTEN}\n{METRICS_HEADER}{''.join(map(_metric_row, found))}"


def _metric_row(metric: Family) -> str:
    labels = ", ".join(f"`{name}`" for name in metric.label_names)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.about}. |\n"


def command_line_page() -> str:
    """Return the page on the command line, with each command, its options and its help at its end."""
    text = (DOCS / COMMAND_LINE).read_text().partition(WRITTEN)[0]
    parts = [text, WRITTEN]
    for title, rows in COMMANDS.items():
        parts.append(f"\n## {title}\n")
        for row in rows:
            parts += _command(f"aidevos {row.name}", Pending(row).load())
    return "".join(parts)


def _command(name: str, command: Any) -> Iterator[str]:
    """Yield the entries of a command, or of those of its group."""
    if commands := getattr(command, "commands", None):
        yield f"\n### {name}\n\n{command.help}\n"
        for each in commands.values():
            loaded = each.load() if isinstance(each, Pending) else each
            yield from _command(f"{name} {loaded.name}", loaded)
        return
    context = Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    level = "###" if name.count(" ") == 1 else "####"
    yield f"\n{level} {name}\n\n`{usage}`\n\n{_help_text(command.help)}\n"
    if records := [record for each in command.params if (record := each.get_help_record(context))]:
        yield "\n| argument or option | meaning |\n| --- | --- |\n"
    for form, meaning in records:
        yield f"| `{_cell(_is_text.sub('', form))}` | {_cell(meaning)} |\n"


def _help_text(text: str) -> str:
    """Return the help of a command, with its examples as code."""
    return re.sub(r"^Example: (.*)$", r"Example: `\1`", text, flags=re.MULTILINE)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def settings_page() -> str:
    """Return every setting with its default, bounds and meaning, in the sections of `settings.py`."""
    fields = {field.name: field for field in msgspec.structs.fields(settings.Settings)}
    parts = [SETTINGS]
    for section, name, meaning in _documented(settings):
        if section:
            parts.append(f"\n## {section}\n\n{HEADER}")
        metas = _metas(fields[name].type)
        unit = next((meta.extra.get("unit", "") for meta in metas if meta.extra), "")
        default = _default(fields[name].default, unit)
        parts.append(f"| `{settings.PREFIX}{name.upper()}` | {default} | {unit} | {_bounds(metas)} | {meaning} |\n")
    return "".join(parts)


def _documented(module: Any) -> Iterator[tuple[str, str, str]]:
    """Yield each setting's section (only for the first setting of a section), name and docstring."""
    source = inspect.getsource(module)
    lines = source.splitlines()
    (struct,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    for field, after in zip(struct.body, struct.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            before = lines[field.lineno - 2].strip()
            section = before.removeprefix("# ") if before.startswith("# ") else ""
            yield section, field.target.id, " ".join(_docstring(after).split())


def _docstring(node: ast.stmt) -> str:
    """Return the text of a docstring, or "" for any other statement."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return str(node.value.value)
    return ""


def _metas(annotation: Any) -> list[msgspec.Meta]:
    return list(get_args(annotation)[1:]) if get_origin(annotation) is Annotated else []


def _default(value: Any, unit: str) -> str:
    """Return a default as an environment value, and in a larger unit if that is a whole number."""
    if value == "":
        return ""
    if isinstance(value, bool):
        return f"`{value}`".lower()
    if not isinstance(value, int | float):
        return f"`{value}`"
    scales = SCALES.get(unit, {}).items()
    larger = next((f" ({value / size:g} {name})" for name, size in scales if value >= size and value % size == 0), "")
    return f"`{_number(value)}`{larger}"


def _bounds(metas: list[msgspec.Meta]) -> str:
    """Return the type's bounds, such as "1 to 64", or its pattern."""
    for meta in metas:
        if meta.pattern:
            return f"`{meta.pattern.removeprefix('^').removesuffix(END)}`".replace("|", "\\|")
        low = f"more than {_number(meta.gt)}" if meta.gt is not None else meta.ge is not None and _number(meta.ge)
        if low:
            return f"{low} to {_number(meta.le)}" if meta.le is not None else f"{low} or more"
    return ""


def _number(value: float) -> str:
    return f"{value:.15g}"


def write() -> None:
    """Write the pages into `docs/`."""
    for name, text in pages().items():
        (DOCS / name).write_text(text)


if __name__ == "__main__":
    write()
