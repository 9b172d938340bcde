"""A user's code, as a process of the loop has loaded it: the object types, tasks and resources in its own modules."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from aidevos.cli.dev.target import Target
from aidevos.cli.user_modules import is_own, resources_in
from aidevos.durable.objects.object import BaseDurableObject
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.process.service import Service
from aidevos.process.serving import check
from aidevos.work.handlers import handlers_in
from aidevos.work.process import group_name, worker_service

# Modules of a package that are no part of what it serves.
TESTS = ("test", "tests", "conftest", "__main__")


class CodeError(Exception):
    """Raised for code that can't be served. The message has lines that say why and where."""

    @property
    def summary(self) -> str:
        """The message as one line, with the innermost place."""
        lines = [line.strip() for line in str(self).splitlines()]
        places = [line for line in lines[:-1] if line.startswith("File ")]
        return ": ".join([*places[-1:], lines[-1]])


class Code:
    """The code of a target, which is imported. `types` and `handlers` are by name. Raises `CodeError`."""

    def __init__(self, target: Target) -> None:
        sys.path[:0] = [str(target.root), ""]
        known = {*sys.modules}
        _import(target.module)
        if target.is_package:
            for name in _submodules(target):
                _import(name)
        imported = [module for name, module in list(sys.modules.items()) if name not in known]
        self._modules = [module for module in imported if is_own(getattr(module, "__file__", None))]
        self.files = [str(module.__file__) for module in self._modules]
        self.objects = self._find_objects(target.name)
        try:
            self.types = DurableObjectRegistry(self.objects.types).types
            self.handlers = handlers_in(self._modules)
            group = group_name([target.module])
            self.tasks = worker_service(self.handlers, group=group, resources=resources_in(self._modules))
            check(self.objects)
            check(self.tasks)
        except TypeError as error:
            raise CodeError(str(error)) from None
        if not (self.types or self.handlers):
            raise CodeError(
                f"{target.name} has neither an object type nor a task: "
                'write a class X(BaseDurableObject[XState], type="x"), or a function with @task("x")'
            )

    def _find_objects(self, name: str) -> Service:
        """Return the service that the code declares, if it does, with all object types of the code."""
        declared = list(dict.fromkeys(each for each in self._values() if isinstance(each, Service)))
        if len(declared) > 1:
            raise CodeError(f"{name} declares {len(declared)} services: name the module of one of them")
        service = declared[0] if declared else Service("objects", resources=resources_in(self._modules))
        classes = dict.fromkeys([*service.types, *self._classes()])
        for cls in classes:
            _check_class(cls)
        return replace(service, types=list(classes))

    def _values(self) -> Iterator[Any]:
        for module in self._modules:
            yield from vars(module).values()

    def _classes(self) -> Iterator[type[BaseDurableObject[Any]]]:
        for each in self._values():
            is_type = isinstance(each, type) and issubclass(each, BaseDurableObject) and "object_type" in vars(each)
            if is_type and sys.modules.get(each.__module__) in self._modules:
                yield each


def _submodules(target: Target) -> Iterator[str]:
    """Yield the names of a package's modules, without its tests."""
    package = sys.modules[target.module]
    for found in pkgutil.walk_packages(package.__path__, f"{target.module}.", onerror=lambda name: None):
        parts = found.name.removeprefix(f"{target.module}.").split(".")
        if not any(part in TESTS or part.startswith("test_") for part in parts):
            yield found.name


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever a user's module raises while it is imported
        raise CodeError(describe(error)) from None


def _check_class(cls: type[BaseDurableObject[Any]]) -> None:
    try:
        DurableObjectRegistry([cls])
    except TypeError as error:
        raise CodeError(f"{_where(cls)}{error}") from None


def _where(cls: type) -> str:
    try:
        return f'File "{inspect.getsourcefile(cls)}", line {inspect.getsourcelines(cls)[1]}: '
    except (OSError, TypeError):
        return ""


def describe(error: BaseException) -> str:
    """Return an exception with its traceback, from the first line of a user's own code on."""
    told = traceback.TracebackException.from_exception(error)
    frames = [index for index, frame in enumerate(told.stack) if is_own(frame.filename)]
    del told.stack[: frames[0] if frames else len(told.stack)]
    told.stack[:] = [frame for frame in told.stack if not frame.filename.startswith("<frozen ")]
    lines = list(told.format())
    return "".join(lines if told.stack else lines[1:] if lines[0].startswith("Traceback") else lines).rstrip()
