"""The command `aidevos doctor`, which makes all checks at once.

Promise: a check that fails, or takes longer than `LIMIT` seconds, hides no other one.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from typer import Exit, Option

from aidevos.cli.doctor.finding import Finding, Unreachable, error
from aidevos.cli.output import print_json, print_table
from aidevos.settings import load

if TYPE_CHECKING:
    from aidevos.cli.doctor.patient import Check, Patient

LIMIT = 15.0
STATUS = {"ok": 0, "skipped": 0, "warning": 1, "error": 2}


def doctor(as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False) -> None:
    """Examine the fleet, and say what to do.

    It looks at the processes, files, NATS and MongoDB of the fleet under AIDEVOS_HOME. Exit status: 0 if all is well, 1
    with warnings, 2 with errors.
    """
    from aidevos.cli.doctor.patient import Patient

    findings = asyncio.run(examine(Patient(load())))
    if as_json:
        print_json(findings)
    else:
        print_table(("CHECK", "STATUS", "FOUND", "WHAT TO DO"), map(_cells, findings))
        print(f"\n{_summary(findings)}")
    sys.stdout.flush()
    status = max(STATUS[finding.status] for finding in findings)
    if any("longer than" in finding.detail for finding in findings):
        # A thread may wait for a server that never answers.
        os._exit(status)
    raise Exit(status)


async def examine(patient: Patient, checks: Sequence[Check] | None = None) -> list[Finding]:
    """Return what all checks have found, in their order."""
    if checks is None:
        from aidevos.cli.doctor.checks import CHECKS

        checks = CHECKS
    try:
        found = await asyncio.gather(*(_run(check, patient) for check in checks))
    finally:
        await patient.close()
    return [finding for findings in found for finding in findings]


async def _run(check: Check, patient: Patient) -> list[Finding]:
    name = check.__name__.removeprefix("check_").replace("_", " ")
    try:
        async with asyncio.timeout(LIMIT):
            return await check(patient)
    except Unreachable as reason:
        return [Finding(check=name, status="skipped", detail=str(reason))]
    except TimeoutError:
        return [error(name, f"the check took longer than {LIMIT:.0f} s", "see whether the servers answer")]
    except Exception as failure:
        return [error(name, f"the check failed: {type(failure).__name__}: {failure}", "report this as a bug")]


def _cells(finding: Finding) -> tuple[str, str, str, str]:
    return finding.check, finding.status, finding.detail, finding.advice


def _summary(findings: Sequence[Finding]) -> str:
    counts = {status: sum(finding.status == status for finding in findings) for status in STATUS}
    return f"{counts['ok']} ok, {counts['warning']} warnings, {counts['error']} errors, {counts['skipped']} skipped"
