"""A process whose event loop doesn't turn ends by itself, and its log names the method that holds the loop."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aidevos.durable.hosting.pulse import BEAT_EVERY, Pulse
from aidevos.process import watchdog
from aidevos.process.watchdog import STATUS, Watchdog
from tests.support.kits import until

SHORT, LONG = 1.0, 3600.0
# Seconds in which a process must have ended on a busy machine.
WITHIN = 30.0


@contextmanager
def stalled(how: str, limit: float, stop_limit: float = LONG) -> Iterator[subprocess.Popen[str]]:
    """Start a process whose loop has stopped turning."""
    command = [sys.executable, "-m", "tests.support.stalled_process", how, str(limit), str(stop_limit)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "stalls\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("how", ["spin", "block"])
def test_a_method_that_holds_the_loop_ends_the_process_and_is_named(how: str) -> None:
    with stalled(how, SHORT) as process:
        _, errors = process.communicate(timeout=WITHIN)

    logged = json.loads(errors.splitlines()[-1])
    assert process.returncode == STATUS
    assert (logged["level"], logged["service"]) == ("CRITICAL", "mill")
    assert "mill:m.grind holds the event loop" in logged["message"]
    assert f"in _{how}\n" in logged["stack"]


def test_a_call_that_keeps_the_interpreters_lock_ends_the_process_and_its_stack_is_shown() -> None:
    with stalled("lock", SHORT) as process:
        _, errors = process.communicate(timeout=WITHIN)

    assert process.returncode == -signal.SIGVTALRM
    assert "in _lock" in errors
    assert "in grind" in errors


@pytest.mark.parametrize("how", ["spin", "block"])
def test_a_signal_to_stop_works_while_the_loop_is_held(how: str) -> None:
    with stalled(how, LONG, SHORT) as process:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=WITHIN)

    assert process.returncode == STATUS
    assert "mill:m.grind holds the event loop" in errors


async def test_a_loop_that_turns_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pulse, ended = Pulse(), threading.Event()
    monkeypatch.setattr(watchdog, "LOOK_EVERY", 0.01)
    beats = asyncio.create_task(pulse.run())
    with Watchdog(pulse, 4 * BEAT_EVERY, lambda status: ended.set()):
        await until(lambda: pulse.beats > 5)
    beats.cancel()

    assert not ended.is_set()
