"""The modules that every process of a service loads: imported by the process from which they are forked."""

from __future__ import annotations

import aidevos.process.serving  # noqa: F401
from aidevos.observability.log_lines import import_structlog

import_structlog()
