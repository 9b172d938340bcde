"""A real RabbitMQ for the tests.

It comes from `AIDEVOS_EVENT_BUS_URL` if set, else from a private node of Debian's program, else from a
container if a Docker engine answers.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from aidevos.settings import SettingsError
from deploy.local import ports
from tests.support.certificates import Authority
from tests.support.paths import temporary_folder
from tests.support.servers import ContainerServer, ExternalServer, LocalServer, Server, docker_answers, free_port

IMAGE = "rabbitmq:4.2"
# The program on the PATH can't be used: it requires the user `rabbitmq` and the home of the system's node.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
HOST = "127.0.0.1"
START_TIMEOUT = 100.0


class RabbitMq:
    """One node in a temporary home, and its Erlang port mapper, which would otherwise outlive it.

    `tls_url` requires a client certificate issued by `authority`. An external node has no such URL.
    """

    def __init__(self) -> None:
        """Prepare a node; raise `SettingsError` if RabbitMQ is not available."""
        self.home = temporary_folder("rabbitmq")
        self._port, self._peers, self._mapper_port = free_port(), free_port(), free_port()
        self._tls_port = free_port()
        self.authority = Authority(self.home)
        self.tls_url = f"amqps://guest:guest@localhost:{self._tls_port}/"
        self.url = os.environ.get("AIDEVOS_EVENT_BUS_URL") or f"amqp://guest:guest@{HOST}:{self._port}/"
        self._mapper: Server = ExternalServer()
        self.server: Server = self._found()

    def start(self) -> None:
        self._mapper.start()
        self.server.start()

    def close(self) -> None:
        self.server.close()
        self._mapper.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def _found(self) -> Server:
        if os.environ.get("AIDEVOS_EVENT_BUS_URL"):
            return ExternalServer()
        mapper = shutil.which("epmd")
        if PROGRAM.exists() and mapper:
            command = [mapper, "-port", str(self._mapper_port), "-address", HOST]
            self._mapper = LocalServer(command, self.home / "epmd.log", self._ready(self._mapper_port))
            log = self.home / "rabbitmq.log"
            return LocalServer([str(PROGRAM)], log, self._ready(self._port), os.environ | self._environment())
        if not docker_answers():
            raise SettingsError(
                "RabbitMQ was not found: install Debian's package rabbitmq-server, or set AIDEVOS_EVENT_BUS_URL"
            )
        return ContainerServer(IMAGE, ["rabbitmq-server"], self.home, self._ready(self._port), self._environment())

    def _environment(self) -> dict[str, str]:
        (self.home / "plugins").write_text("[].")
        (self.home / "rabbitmq.conf").write_text(f"""
            listeners.ssl.default = {HOST}:{self._tls_port}
            ssl_options.cacertfile = {self.authority.file}
            ssl_options.certfile = {self.authority.server}
            ssl_options.keyfile = {self.authority.server}
            ssl_options.verify = verify_peer
            ssl_options.fail_if_no_peer_cert = true
        """)
        return {
            "HOME": str(self.home),
            "RABBITMQ_NODENAME": f"test{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._peers),
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": HOST,
            # Schedulers that wait for work don't keep a core busy meanwhile.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"
            ),
            "RABBITMQ_MNESIA_BASE": str(self.home / "data"),
            "RABBITMQ_LOG_BASE": str(self.home / "logs"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            # Otherwise a shell stays between the node and the process that ends it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _ready(self, port: int) -> Callable[[Callable[[], None]], None]:
        return lambda check: ports.wait_for_port(HOST, port, check, START_TIMEOUT)
