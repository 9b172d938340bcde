"""The table of ASVS in the security model is complete, and what it names exists."""

from __future__ import annotations

import re
from collections import Counter

from tests.support.paths import ROOT, VECTORS

SECTION = (ROOT / "docs" / "security-model.md").read_text().partition("## ASVS 5.0, level 2")[2]
REQUIRED = (VECTORS / "asvs" / "level2.txt").read_text().split()


def rows() -> list[list[str]]:
    """Return the cells of each row of the section's tables, without the headings."""
    lines = [line for line in SECTION.splitlines() if re.match(r"\| \d", line)]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def requirements(cell: str) -> list[str]:
    """Return the IDs in a cell such as `1.2.1–3, 1.3.6`."""
    found = []
    for part in cell.split(", "):
        first, _, last = part.partition("–")
        section, _, number = first.rpartition(".")
        found += [f"{section}.{each}" for each in range(int(number), int(last or number) + 1)]
    return found


def test_every_requirement_up_to_level_2_has_exactly_one_row() -> None:
    assert Counter(id for row in rows() for id in requirements(row[0])) == Counter(REQUIRED)


def test_what_is_met_has_a_test_that_exists() -> None:
    met = [row for row in rows() if len(row) == 3]
    named = [name for row in met for name in re.findall(r"`([\w/]+\.py)`", row[2])]

    assert len(met) > 40
    assert all(re.search(r"`[\w/]+\.py`", row[2]) for row in met)
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []
