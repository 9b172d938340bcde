"""The RabbitMQ of the tests leaves nothing behind."""

from __future__ import annotations

import psutil
import pytest

from tests.support.rabbitmq import RabbitMq
from tests.support.servers import ExternalServer


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_no_process_of_a_node_outlives_it(end: str) -> None:
    node = RabbitMq()
    if isinstance(node.server, ExternalServer):
        return  # somebody else's
    before = {*psutil.Process().children(recursive=True)}
    node.start()
    started = {*psutil.Process().children(recursive=True)} - before
    getattr(node.server, end)()
    node.close()

    # A node's helper processes end by themselves once the node has ended.
    _, left = psutil.wait_procs(started, timeout=10)
    assert left == []
    assert not node.home.exists()
