"""An installed wheel: one package, whose services and deployment run from there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.gateway_world import eventually
from tests.support.http import http_client
from tests.support.pods import EXAMPLE
from tests.support.servers import Servers, free_port
from tests.support.snippets import python_files

ROOT = Path(__file__).parents[2]
IMPORT_ALL = """
import importlib, importlib.util, json, pkgutil
import aidevos

def fail(name):
    raise

exported = {name: getattr(aidevos, name) for name in aidevos.__all__}
names = [module.name for module in pkgutil.walk_packages(aidevos.__path__, "aidevos.", fail)]
# Importing a `__main__` would run it.
find = lambda name: importlib.util.find_spec(name).origin
files = {name: find(name) if name.endswith("__main__") else importlib.import_module(name).__file__ for name in names}
shadowed = [name for name in exported if getattr(aidevos, name) != exported[name]]
same = aidevos.services().text == exported["services"]().text
print(json.dumps({"files": files, "shadowed": shadowed, "same": same}))
"""
COMMANDS = """
import json
from aidevos.deploy.local.programs import SERVICES
print(json.dumps({service.name: service.command for service in SERVICES}))
"""


def pip(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True, cwd=ROOT)


class Environment:
    """A virtual environment with the wheel and its dependencies, but without the checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        venv.create(folder, symlinks=True)
        pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
        (wheel,) = folder.glob("*.whl")
        pip("--python", self.python, "install", "--no-deps", "--no-index", wheel)
        (self.packages,) = folder.glob("lib/python*/site-packages")
        (self.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    def run(self, code: str) -> Any:
        """Run the code, and return its JSON output."""
        command = [self.python, "-P", "-c", code]
        ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=self.folder, env=environment())
        return json.loads(ran.stdout)


def environment(**settings: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | settings


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("wheel"))


@contextlib.contextmanager
def running(command: list[str], **settings: str) -> Iterator[None]:
    with subprocess.Popen(command, env=environment(**settings)) as process:
        try:
            yield
        finally:
            process.terminate()


def test_its_one_top_level_package_is_aidevos(installed: Environment) -> None:
    names = {path.name for path in installed.packages.iterdir() if path.suffix not in (".pth", ".dist-info")}

    assert names == {"aidevos"}
    assert installed.run("import importlib.util as u; print(int(any(map(u.find_spec, ('services', 'deploy')))))") == 0


def test_every_module_imports_and_every_file_of_the_checkout_is_there(installed: Environment) -> None:
    found = installed.run(IMPORT_ALL)

    files = {Path(file).relative_to(installed.packages) for file in found["files"].values()}
    folders = {ROOT / "libs" / "aidevos": "", ROOT / "services": "services", ROOT / "deploy": "deploy"}
    kept = {
        Path("aidevos", name, path.relative_to(folder))
        for folder, name in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert files == {path for path in kept if path.suffix == ".py"} - {Path("aidevos/__init__.py")}
    kept |= {Path("aidevos", path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    assert all((installed.packages / path).is_file() for path in kept)
    # The subpackage `services` shadows the rule `services`, and can be called in its place.
    assert (found["shadowed"], found["same"]) == (["services"], True)


def test_what_the_documentation_has_users_write_passes_a_strict_type_check(installed: Environment) -> None:
    folder = installed.folder / "written"
    folder.mkdir()
    for name, code in python_files().items():
        (folder / name).write_text(code)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-incremental"]

    checked = subprocess.run(
        [*command, "--python-executable", installed.python, "."], cwd=folder, capture_output=True, text=True
    )

    assert checked.stdout.startswith("Success"), checked.stdout + checked.stderr


def test_containers_and_supervisor_start_modules_that_it_has(installed: Environment) -> None:
    modules = set(re.findall(r"python, -m, ([\w.]+)", (ROOT / "docker-compose.yml").read_text()))
    modules |= set(re.findall(r"python, -m, ([\w.]+)", EXAMPLE.read_text()))
    modules |= {line[line.index("-m") + 1] for line in installed.run(COMMANDS).values()}

    assert {"aidevos.deploy.docker", "aidevos.deploy.kubernetes"} <= modules
    assert "aidevos.services.http_gateway" in modules
    for module in modules:
        assert (installed.packages / module.replace(".", "/") / "__main__.py").is_file(), module


async def test_a_service_and_the_gateways_workers_start_from_it(
    installed: Environment, servers: Servers, database: str
) -> None:
    commands = installed.run(COMMANDS)
    port = free_port()
    shared = {
        "AIDEVOS_HOME": str(servers.home),
        "AIDEVOS_MONGO_URL": servers.mongo_url,
        "AIDEVOS_MONGO_DATABASE": database,
        "AIDEVOS_PUBLIC_URL": servers.public_url,
        "AIDEVOS_SERVICES": "objects",
    }
    objects = {**shared, "AIDEVOS_NATS_URL": servers.nats_url("objects")}
    gateway = {**shared, "AIDEVOS_NATS_URL": servers.nats_url("gateway"), "AIDEVOS_PORT": str(port)}
    headers = {"Authorization": f"Bearer {servers.issuer().issue('someone', roles=('admin',))}"}
    with running(commands["objects"], **objects), running(commands["http_gateway"], AIDEVOS_WORKERS="2", **gateway):
        async with http_client(base_url=f"http://127.0.0.1:{port}", headers=headers) as http:

            async def ready() -> bool:
                with contextlib.suppress(httpx2.TransportError):
                    return (await http.get("/health/ready")).status_code == 200
                return False

            await eventually(ready, seconds=30)
            request = {"method": "increment", "args": {"by": 2}}
            answer = await http.post("/durable-objects/counter:wheel/request", json=request)

    assert answer.json() == {"result": 2}
