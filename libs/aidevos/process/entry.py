"""The entry point of services' processes. Unlike `serving`, it is cheap to import."""

from __future__ import annotations

from aidevos.process.service import Service


def run(service: Service) -> None:
    """Run a process of the service until SIGTERM or SIGINT, with the settings of its environment.

    A setting or a declaration that can't be used ends the process with one line and status 2.
    """
    # Here, because it brings the drivers of the store and the bus, which no other user of the package needs.
    from aidevos.process import serving

    serving.run(service)
