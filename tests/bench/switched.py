"""`python -m tests.bench.switched SERVICE`: a service whose metrics and traces can be turned off and on by signals.

SIGUSR1 turns the metrics of requests and turns off or on, and SIGUSR2 the traces. Turned off, the process does for a
request what it does where the settings leave them off.
"""

from __future__ import annotations

import runpy
import signal
import sys

from aidevos.observability import tracing
from aidevos.observability.metrics import measuring


class _Traces:
    """The recorder of the process while traces are turned off."""

    kept: tracing.Recorder | None = None


def _switch_metrics(*_: object) -> None:
    measuring.on = not measuring.on


def _switch_traces(*_: object) -> None:
    tracing.recorder, _Traces.kept = _Traces.kept, tracing.recorder


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _switch_metrics)
    signal.signal(signal.SIGUSR2, _switch_traces)
    runpy.run_module(f"services.{sys.argv.pop(1)}", run_name="__main__", alter_sys=True)
