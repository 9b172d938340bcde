"""All checks, in the order in which their findings are shown."""

from __future__ import annotations

from aidevos.cli.doctor import (
    backlog,
    certificates,
    clocks,
    collections,
    machine,
    placement,
    processes,
    security,
    servers,
    streams,
)
from aidevos.cli.doctor.patient import Check

CHECKS: tuple[Check, ...] = (
    processes.check_processes,
    processes.check_ports,
    servers.check_versions,
    security.check_passwords,
    security.check_files,
    security.check_environment,
    security.check_tls,
    security.check_compressors,
    security.check_origins,
    certificates.check_certificates,
    streams.check_mapping,
    streams.check_streams,
    collections.check_collections,
    clocks.check_clocks,
    machine.check_disk,
    machine.check_memory,
    placement.check_orphaned_keys,
    backlog.check_outboxes,
    backlog.check_alarms,
    backlog.check_dead_letters,
)
