"""What `aidevos dev` prints: what is served and how to call it, and why a change can't be served."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Sequence

from aidevos.cli.dev.messages import Loaded, Method, Type
from aidevos.cli.dev.page import is_refused
from aidevos.observability.log_lines import BRIGHT, RESET, is_colourful

RED, GREEN, YELLOW = "\x1b[31m", "\x1b[32m", "\x1b[33m"


class Screen:
    """Prints to standard output. `name` is that of the code, and `token` is good for all calls."""

    def __init__(self, name: str, url: str, token: str) -> None:
        self._name = name
        self._url = url
        self._token = token
        self._shown: Loaded | None = None
        self._colours = is_colourful(sys.stdout)

    def show_page(self, url: str) -> None:
        """Say where the page is, and what the fleet lacks for it."""
        self._say(GREEN, f"The page is at {url}")
        if is_refused(url, self._url):
            remedy = f"AIDEVOS_CORS_ORIGINS={url} aidevos restart http_gateway"
            self._say(YELLOW, f"The fleet doesn't let it call. Allow that with: {remedy}")

    def show_served(self, loaded: Loaded, seconds: float, *, changed: bool) -> None:
        """Say that the code is served. Show what it is at first, and whenever that has `changed`."""
        before, self._shown = self._shown, loaded
        if before is None:
            self._say(GREEN, f"{self._name} is served at {self._url}")
        elif changed:
            self._say(GREEN, f"{self._name} has changed, and is served anew after {seconds:.2f} s")
        else:
            self._say(GREEN, f"{self._name} is served again")
        if before is None or (loaded.types, loaded.tasks) != (before.types, before.tasks):
            self._print("", *_lines_of(loaded), "")
        if before is None:
            self._print(*self._explain(loaded))

    def show_finishing(self) -> None:
        """Say that the old code still runs."""
        self._say(YELLOW, f"{self._name} has changed; the code from before finishes what it has begun")

    def show_refused(self, problem: str, *, serving: bool) -> None:
        """Say why the code can't be served, and what is served instead."""
        instead = "the code from before serves on" if serving else "nothing is served until that is mended"
        self._say(RED, f"{self._name} can't be served; {instead}:")
        self._print(*(f"  {line}" for line in problem.splitlines()))

    def show_unfit(self, problem: str) -> None:
        """Say which stored states don't fit the code."""
        self._say(YELLOW, problem)

    def show_death(self) -> None:
        """Say that a process that serves has ended by itself."""
        self._say(RED, f"a process that serves {self._name} has ended: starting it again")

    def _explain(self, loaded: Loaded) -> Iterator[str]:
        yield "Call a method on this machine, or from anywhere with this token of an administrator:"
        yield ""
        example = _find_example(loaded.types)
        if example is not None:
            yield from ("  " + _command(*example), "")
        yield f"  TOKEN={self._token}"
        if example is not None:
            yield from _request(self._url, *example)
        yield ""
        yield f"{self._url}/docs describes the whole API. Changes of the code are served at once. Ctrl-C stops."
        yield ""

    def _say(self, style: str, line: str) -> None:
        self._print(f"{style}{BRIGHT}{line}{RESET}" if self._colours else line)

    def _print(self, *lines: str) -> None:
        print(*lines, sep="\n", flush=True)


def _lines_of(loaded: Loaded) -> Iterator[str]:
    """Yield a line for each type, method and task."""
    methods = [method for type in loaded.types for method in type.methods]
    width = max((len(method.name + method.signature) for method in methods), default=0)
    kinds = max((len(method.kind) for method in methods), default=0)
    for type in loaded.types:
        yield f"  {type.name}"
        for method in type.methods:
            yield f"    {method.name + method.signature:{width}}  {method.kind:{kinds}}  {method.allow}"
    for kind, payload in loaded.tasks.items():
        yield f"  task {kind}{payload}"


def _find_example(types: Sequence[Type]) -> tuple[str, Method] | None:
    """Return the first method that can be called, and its type's name."""
    methods = ((type.name, method) for type in types for method in type.methods if not method.kind.startswith("on "))
    return next(methods, None)


def _command(type: str, method: Method) -> str:
    """Return a line for the shell that calls a method."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in method.example.items()}
    arguments = [f"{name}={text}" for name, text in texts.items()]
    return shlex.join(["aidevos", "objects", "call", f"{type}:demo", method.name, *arguments])


def _request(url: str, type: str, method: Method) -> Iterator[str]:
    """Yield the lines of a request that calls a method with `$TOKEN`."""
    body = json.dumps({"method": method.name, "args": method.example})
    yield f'  curl -s {url}/durable-objects/{type}:demo/request -H "Authorization: Bearer $TOKEN" \\'
    yield f"      -H 'Content-Type: application/json' -d '{body}'"
