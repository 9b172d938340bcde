"""The metrics of the whole fleet, which the gateway asks of all processes at once.

Promise: the answer is one valid exposition, in which each sample has the labels `service` and `replica` of its process.
A host that holds a lease but doesn't answer in time is left out and counted by `aidevos_fleet_silent_hosts`.
"""

from __future__ import annotations

import logging

import msgspec
from nats.aio.client import Client
from prometheus_client.core import GaugeMetricFamily

from aidevos.contracts import subjects
from aidevos.contracts.fleet import ProcessMetrics
from aidevos.observability.exposition import OPENMETRICS, join, share

from .survey import ask_all, find_hosts

log = logging.getLogger(__name__)
_metrics = msgspec.msgpack.Decoder(ProcessMetrics)


class FleetMetrics:
    """Asks the processes over one connection."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection

    async def show(self, *, with_exemplars: bool) -> bytes:
        """Return the metrics of all processes that answer in time. Raises `unavailable` without NATS."""
        # The last part of an incarnation is that of one life of its host.
        silent = {incarnation.rpartition(".")[0] for incarnation in await find_hosts(self._connection)}
        found: list[ProcessMetrics] = []

        def receive(answer: bytes) -> None:
            try:
                found.append(_metrics.decode(answer))
            except msgspec.DecodeError as error:
                log.warning("a process's metrics can't be read: %s", error)
            else:
                silent.discard(found[-1].host)

        payload = OPENMETRICS.encode() if with_exemplars else b""
        await ask_all(
            self._connection, subjects.FLEET_METRICS, receive, payload=payload, is_complete=lambda: not silent
        )
        own = (
            GaugeMetricFamily("aidevos_fleet_processes", "Processes that have answered", len(found)),
            GaugeMetricFamily("aidevos_fleet_silent_hosts", "Hosts that haven't answered in time", len(silent)),
        )
        counts = [share(each, {}, with_exemplars=with_exemplars) for each in own]
        return join([*(each.shares for each in found), counts], with_exemplars=with_exemplars)
