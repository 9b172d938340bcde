"""Counts the instructions of each hot path with valgrind's callgrind.

Counts depend on the interpreter, the C library and the processor's instructions, but hardly on how busy the machine is.
They are compared only where all of these are the same (`platform_key`).
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.guard.paths import MARK, PATHS, READY
from tests.support.paths import ROOT

WITHIN = 300.0
_total = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)


class CountingFailed(Exception):
    """Raised when the paths could not be counted; the message says why."""


def platform_key() -> str:
    """Return a name for everything that counts depend on besides the code."""
    libc = " ".join(platform.libc_ver())
    return f"{platform.python_implementation()} {sys.version.replace(chr(10), ' ')}, {libc}, {_processor()}"


def _processor() -> str:
    """Return the architecture, with the widest vectors that callgrind offers to the C library."""
    known = Path("/proc/cpuinfo")
    flags = known.read_text().split() if known.exists() else []
    widest = next((name for name in ("avx2", "avx") if name in flags), "")
    return f"{platform.machine()} {widest}".strip()


def count() -> dict[str, float]:
    """Return the instructions per request of each path, in thousands. Raises `CountingFailed`."""
    with tempfile.TemporaryDirectory() as folder:
        totals = _run(Path(folder))
    if len(totals) != len(PATHS):
        raise CountingFailed(f"callgrind has counted {len(totals)} paths instead of {len(PATHS)}")
    return {
        name: round(total / 1000 / (path.times * path.requests), 2)
        for (name, path), total in zip(PATHS.items(), totals, strict=True)
    }


def _run(folder: Path) -> list[int]:
    """Run the paths under callgrind, and return the instructions of each."""
    output, log = folder / "out", folder / "log"
    options = [f"--toggle-collect={MARK}", f"--dump-after={MARK}", f"--callgrind-out-file={output}"]
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--log-file={log}", *options]
    # The order of sets, and with it the work of a path, depends on the seed of hashes.
    process = subprocess.Popen(
        [*command, sys.executable, "-m", "tests.bench.guard.paths"],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin
        assert process.stdout
        if process.stdout.readline().strip() == READY:
            _instrument(process.pid)
            process.communicate("\n", timeout=WITHIN)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise CountingFailed(f"the paths ended with status {process.returncode}: {log.read_text()[-500:]}")
    return read_totals(folder)


def _instrument(pid: int) -> None:
    command = ["callgrind_control", "--instr=on", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN, check=False)
    if done.returncode:
        raise CountingFailed(f"callgrind can't be switched on: {done.stdout}{done.stderr}")


def read_totals(folder: Path) -> list[int]:
    """Return the totals of the dumps that callgrind has written after each path, in their order."""
    dumps = sorted(folder.glob("out.*"), key=lambda path: int(path.suffix[1:]))
    found = [_total.search(dump.read_text()) for dump in dumps]
    return [int(match[1]) for match in found if match]
