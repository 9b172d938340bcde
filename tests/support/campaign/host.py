"""A host process of the objects that a campaign puts under load.

`TEST_MUTATION` names a bug to put into it. `TEST_CLOCK` names a file with the number of seconds by which its wall clock
is wrong.
"""

from __future__ import annotations

import os

from aidevos import Service
from aidevos.process.serving import run
from aidevos.settings import load
from tests.support.workloads import CLASSES
from tests.support.wrong_clock import follow_file

if __name__ == "__main__":
    follow_file(os.environ["TEST_CLOCK"])
    run(Service("objects", CLASSES), load(), reports_health=False)
