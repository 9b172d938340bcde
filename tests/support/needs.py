"""`python -m tests.support.needs`: install what the tests need from the system, or say what is missing.

Where a Docker engine answers, containers replace servers and browsers. They don't replace libcurl and promtool, which
some tests use directly.
"""

from __future__ import annotations

import os
import shutil
import sys

from aidevos.settings import SettingsError
from deploy.local.packages import LIBCURL, Need, provide
from tests.support.browser import find_browser, find_driver
from tests.support.rabbitmq import PROGRAM
from tests.support.servers import docker_answers


def _has_rabbitmq() -> bool:
    return bool(os.environ.get("AIDEVOS_EVENT_BUS_URL")) or (PROGRAM.exists() and shutil.which("epmd") is not None)


def _has_browser() -> bool:
    return find_browser() is not None and find_driver() is not None


RABBITMQ = Need("RabbitMQ", ("rabbitmq-server",), "set AIDEVOS_EVENT_BUS_URL", _has_rabbitmq)
PROMTOOL = Need("promtool", ("prometheus",), "put promtool on the PATH", lambda: shutil.which("promtool") is not None)
BROWSER = Need(
    "Chromium with its driver",
    ("chromium", "chromium-driver"),
    "put chromedriver and a browser on the PATH",
    _has_browser,
)


def main() -> int:
    try:
        provide([LIBCURL, PROMTOOL])
        provide([RABBITMQ, BROWSER], has_engine=docker_answers)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
