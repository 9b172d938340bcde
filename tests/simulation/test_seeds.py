"""Some hundred seeds of the simulation. `make simulate` runs any number of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from aidevos.testing.simulation.campaign import describe, simulate_seeds
from tests.support.mutations import VARIABLE
from tests.support.simulated import Proofs

SEEDS, GROUPS, OPERATIONS = 200, 10, 30


@pytest.mark.parametrize("group", range(GROUPS))
def test_no_seed_violates_a_guarantee(group: int) -> None:
    report = simulate_seeds(Proofs(), range(group, SEEDS, GROUPS), operations=OPERATIONS)
    assert [describe(failed) for failed in report.failed] == []
    assert report.operations >= report.seeds * OPERATIONS * 0.9
    assert report.faults.total() > report.seeds


def test_the_command_ends_with_a_summary_and_its_status_reports_violations() -> None:
    calm = _simulate("--seeds", "2", "--operations", "20")
    assert calm.returncode == 0
    assert calm.stdout.splitlines()[-1].startswith("2 seeds, ")
    assert calm.stdout.endswith(" faults, 0 violations\n")

    broken = _simulate("--seeds", "5", "--no-shrink", mutation="records_not_stored")
    assert broken.returncode == 1
    assert "The history:" in broken.stdout
    assert not broken.stdout.endswith(" 0 violations\n")


def _simulate(*options: str, mutation: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {VARIABLE: mutation}
    command = [sys.executable, "-m", "tests.simulation", "--processes", "2", *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=False)
