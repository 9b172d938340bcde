"""A short campaign of random faults on real servers; `make faults` runs a long one."""

from __future__ import annotations

import secrets
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

MINUTES = 0.1
# Longer than that of a long campaign, which leaves the machine no rest.
PAUSE = 0.4


@pytest.mark.servers
@pytest.mark.timeout(420)
def test_a_short_campaign_of_random_faults_has_no_violation() -> None:
    command = [sys.executable, "-m", "tests.support.campaign", "--minutes", str(MINUTES), "--pause", str(PAUSE)]
    run = subprocess.run(
        [*command, "--seed", str(secrets.randbits(32))], cwd=ROOT, text=True, capture_output=True, timeout=400
    )

    print(run.stdout)
    assert run.returncode == 0, run.stderr
    assert run.stdout.rstrip().endswith("0 violations")
