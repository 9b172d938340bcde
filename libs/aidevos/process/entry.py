"""The entry point of a service's process. Unlike `serving`, it is cheap to import."""

from __future__ import annotations

from aidevos.process.service import Service


def run(service: Service) -> None:
    """Run a process of the service until SIGTERM or SIGINT, with the settings of its environment.

    An invalid setting or declaration ends the process with one line and status 2.
    """
    # Imported here, because it loads the drivers of the store and the bus, which only a process needs.
    from aidevos.process import serving

    serving.run(service)
