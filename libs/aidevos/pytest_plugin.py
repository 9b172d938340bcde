"""The pytest plugin, which every environment with this package has: the fixtures `kit` and `fleet`.

Async tests run without a further plugin and without configuration. A test that another plugin runs, such as anyio's or
pytest-asyncio's, is left to it, and its kit opens in that plugin's event loop.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from aidevos.testing.fleet import RunningFleet
    from aidevos.testing.kit import ObjectKit

# By name, because pytest takes a mark with one class as its argument for a decorator of that class.
MARKER = "kit(types, **options): the object classes of the fixture `kit`, and the options of its ObjectKit"
# From Python 3.12 on, nats-py warns of its own code for each connection. Nobody who tests objects can change that.
NOT_OURS = r"ignore:datetime\.datetime\.utcnow:DeprecationWarning:nats\."
_KIT = pytest.StashKey["ObjectKit"]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    config.addinivalue_line("filterwarnings", NOT_OURS)


@pytest.fixture
def kit(request: pytest.FixtureRequest) -> ObjectKit:
    """An `ObjectKit` of the classes in the marker `kit`, which is open while the test runs."""
    from aidevos.testing.kit import ObjectKit

    marker = request.node.get_closest_marker("kit")
    if marker is None or "types" not in marker.kwargs:
        pytest.fail("the fixture `kit` needs classes: write @pytest.mark.kit(types=[Counter])", pytrace=False)
    if not inspect.iscoroutinefunction(request.node.obj):
        pytest.fail("a test with the fixture `kit` must be async def", pytrace=False)
    options = dict(marker.kwargs)
    made = request.node.stash[_KIT] = ObjectKit(*options.pop("types"), **options)
    return made


@pytest.fixture(scope="session")
def fleet() -> Iterator[RunningFleet]:
    """A real fleet, which all tests of the run share."""
    from aidevos.testing.fleet import run_fleet

    with run_fleet() as running:
        yield running


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Let the test run while its kit is open, in whichever event loop it runs."""
    kit = item.stash.get(_KIT, None)
    if kit is not None and isinstance(item, pytest.Function):
        item.obj = _within(kit, item.obj)


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test that no other plugin runs."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def _within(kit: ObjectKit, test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def run(*args: Any, **fixtures: Any) -> None:
        async with kit:
            await test(*args, **fixtures)

    return run
