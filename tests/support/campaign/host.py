"""A host process of the objects that a campaign puts under load. `TEST_MUTATION` names a bug to put into it."""

from __future__ import annotations

from aidevos import Service
from aidevos.process.serving import run
from aidevos.settings import load
from tests.support.mutations import mutated
from tests.support.workloads import CLASSES

if __name__ == "__main__":
    with mutated():
        run(Service("objects", CLASSES), load(), reports_health=False)
