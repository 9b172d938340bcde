"""The test kit and the simulation for users' own objects, and the checker of what clients saw of them."""

from aidevos.testing.committed import Tell
from aidevos.testing.history import Operation, Outcome, Recorder, Refusal, Unknown, Value, read_history, write_history
from aidevos.testing.kit import ADMIN, SERVICE, ObjectKit
from aidevos.testing.linearizability import Model, Violation, check_linearizable
from aidevos.testing.simulated_objects import Workload, simulate
from aidevos.testing.stubs import Stub, StubCall
from aidevos.testing.tasks import run_task

__all__ = [
    "ADMIN",
    "SERVICE",
    "Model",
    "ObjectKit",
    "Operation",
    "Outcome",
    "Recorder",
    "Refusal",
    "Stub",
    "StubCall",
    "Tell",
    "Unknown",
    "Value",
    "Violation",
    "Workload",
    "check_linearizable",
    "read_history",
    "run_task",
    "simulate",
    "write_history",
]
