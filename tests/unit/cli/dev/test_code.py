"""A user's code as the development loop loads it."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import pytest

from aidevos.cli.dev.code import Code, CodeError
from aidevos.cli.dev.messages import Method
from aidevos.cli.dev.shown import show_tasks, show_types
from aidevos.cli.dev.target import Target, find_target

CART = """
import msgspec
from aidevos import BaseDurableObject, CloudEvent, Event, TaskContext, command, on, permission, query, task

class CartState(msgspec.Struct):
    items: dict[str, int] = {}

class Paid(Event):
    price: float

class Cart(BaseDurableObject[CartState], type="cart"):
    @command(allow=permission("cart:write"))
    async def add(self, sku: str, count: int = 1) -> CartState: ...

    @on("event.till.*.paid", key=lambda event: event.id)
    async def close(self, event: CloudEvent[Paid]) -> None: ...

class Report(msgspec.Struct):
    title: str
    pages: int = 1

@task("report")
async def report(context: TaskContext, payload: Report) -> None: ...
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an empty package with a name of its own."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folder = tmp_path / f"p{secrets.token_hex(6)}"
    folder.mkdir()
    (folder / "__init__.py").touch()
    return folder


def load(path: Path) -> Code:
    return Code(find_target(str(path)))


def test_a_package_is_served_with_all_that_its_modules_define(package: Path) -> None:
    (package / "cart.py").write_text(CART)
    (package / "other.py").write_text(f"from {package.name}.cart import Cart, report\n")
    (package / "test_cart.py").write_text("1 / 0")
    (package / "tests").mkdir()
    (package / "tests" / "__init__.py").write_text("1 / 0")

    code = load(package)

    assert [*code.types] == ["cart"]
    assert [*code.handlers] == ["report"]
    assert {Path(file).name for file in code.files} == {"__init__.py", "cart.py", "other.py"}


def test_a_file_is_served_with_what_it_imports_from_its_own_package(package: Path) -> None:
    (package / "cart.py").write_text(CART)
    (package / "till.py").write_text("from .cart import Cart\n")
    (package / "broken.py").write_text("1 / 0")

    assert [*load(package / "till.py").types] == ["cart"]


def test_methods_and_tasks_are_shown_as_their_author_wrote_them(package: Path) -> None:
    (package / "cart.py").write_text(f"from __future__ import annotations\n{CART}")
    code = load(package)

    (type,) = show_types(code.types.values())
    add, close = type.methods
    assert add == Method("add", "(sku: str, count: int = 1) -> CartState", "command", "cart:write", {"sku": "text"})
    assert close.name + close.signature == "close(event: CloudEvent[Paid]) -> None"
    assert close.kind == "on event.till.*.paid"
    assert show_tasks(code.handlers) == {"report": "(title: str, pages: int = 1)"}


def test_a_declared_service_keeps_its_resources_and_gets_the_other_types(package: Path) -> None:
    (package / "cart.py").write_text(CART)
    (package / "app.py").write_text(
        "from aidevos import Service\n"
        f"from {package.name}.cart import *\n"
        "shop = Service('objects', types=[Cart], chores=[])\n"
        "class Till(BaseDurableObject[CartState], type='till'): ...\n"
    )

    code = load(package)

    assert sorted(code.types) == ["cart", "till"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def broken(:\n", ['cart.py", line 1', "SyntaxError"]),
        ("\n\nimport absent_module\n", ['cart.py", line 3', "No module named 'absent_module'"]),
        ("def f():\n    1 / 0\nf()\n", ['cart.py", line 3', 'cart.py", line 2, in f', "ZeroDivisionError"]),
        ("raise SystemExit(1)", ['cart.py", line 1', "SystemExit: 1"]),
        (CART.replace('type="cart"', 'type="cart", schema_version=2'), ['cart.py", line 11', "lacks @upcast(from_=1)"]),
        (CART.replace('type="cart"', 'type="user"'), ["Cart can't have the type name 'user'"]),
        (CART.replace('"report"', '"data.report"'), ["'data.report' is reserved"]),
        (f"{CART}\nclass Again(BaseDurableObject[CartState], type='cart'): ...", ["two classes have the type name"]),
        ("from aidevos import Service\na, b = Service('objects'), Service('objects')", ["declares 2 services"]),
        ("", ["neither an object type nor a task"]),
    ],
)
def test_what_cannot_be_served_says_why_and_where(package: Path, text: str, words: list[str]) -> None:
    (package / "cart.py").write_text(text)

    with pytest.raises(CodeError) as refused:
        load(package / "cart.py")

    assert all(word in str(refused.value) for word in words), str(refused.value)
    # Of a traceback, only the author's own lines are of use.
    assert "importlib" not in str(refused.value)


def test_a_target_is_imported_from_its_own_folder(package: Path) -> None:
    (package / "cart.py").write_text(CART)
    assert [*Code(Target("cart", package.parent, f"{package.name}.cart", package / "cart.py")).types] == ["cart"]
