"""Checks of this machine's disk and memory, and of the disk of MongoDB."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from aidevos.cli.doctor.finding import Finding, Unreachable, error, ok, warning
from aidevos.cli.doctor.patient import Patient

# Shares that should be free, and must be.
LOW, EMPTY = 0.10, 0.03
GIB = 1024**3


async def check_disk(patient: Patient) -> list[Finding]:
    """Find disks that are nearly full."""
    folder = next(path for path in (patient.home.absolute(), *patient.home.absolute().parents) if path.is_dir())
    usage = shutil.disk_usage(folder)
    found = [judge("disk", f"the disk of {patient.home}", usage.free, usage.total)]
    try:
        stats = await patient.ask_mongo(lambda data: data.command("dbStats"))
        total, used = int(stats["fsTotalSize"]), int(stats["fsUsedSize"])
        found.append(judge("disk", "the disk of MongoDB", total - used, total))
    except Unreachable:
        pass
    return found


async def check_memory(patient: Patient) -> list[Finding]:
    """Find out whether this machine is short of memory."""
    text = await asyncio.to_thread(Path("/proc/meminfo").read_text)
    lines = (line.split() for line in text.splitlines())
    kibibytes = {line[0].rstrip(":"): int(line[1]) for line in lines}
    return [judge("memory", "memory", kibibytes["MemAvailable"] * 1024, kibibytes["MemTotal"] * 1024)]


def judge(check: str, what: str, free: int, total: int) -> Finding:
    """Return what is to be said of this many free bytes."""
    detail = f"{free / GIB:.1f} of {total / GIB:.1f} GiB of {what} are free"
    advice = "make room" if check == "disk" else "end what needs it, or add memory"
    if free < EMPTY * total:
        return error(check, detail, advice)
    return warning(check, detail, advice) if free < LOW * total else ok(check, detail)
