"""The code that a user names: files, modules and packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from aidevos.cli.dev.target import find_target
from aidevos.cli.errors import CommandError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with some code, and go there."""
    for name in ("shop.py", "cart/__init__.py", "cart/rules/prices.py", "cart/rules/__init__.py", "my-shop.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("src/till/__init__.py", "plain/notes.py", "cart/__pycache__/x.py", "cart/.git/x.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "root", "module", "path"),
    [
        ("shop.py", ".", "shop", "shop.py"),
        ("shop", ".", "shop", "shop.py"),
        ("plain/notes.py", "plain", "notes", "plain/notes.py"),
        ("cart", ".", "cart", "cart"),
        ("cart/", ".", "cart", "cart"),
        ("cart/__init__.py", ".", "cart", "cart"),
        ("cart/rules/prices.py", ".", "cart.rules.prices", "cart/rules/prices.py"),
        ("cart.rules.prices", ".", "cart.rules.prices", "cart/rules/prices.py"),
        ("cart.rules", ".", "cart.rules", "cart/rules"),
        ("till", "src", "till", "src/till"),
    ],
)
def test_code_has_the_name_by_which_its_own_modules_import_it(
    folder: Path, name: str, root: str, module: str, path: str
) -> None:
    found = find_target(name)

    assert (found.root, found.module, found.path) == ((folder / root).resolve(), module, folder / path)


def test_the_folders_of_a_package_are_those_with_code(folder: Path) -> None:
    assert find_target("cart").folders() == {folder / "cart", folder / "cart/rules"}
    assert find_target("shop.py").folders() == {folder}


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("absent.py", "there is no file absent.py"),
        ("absent", "there is no module absent"),
        ("cart.absent", "there is no module cart.absent"),
        ("plain", "plain is a folder without __init__.py"),
        ("my-shop.py", "'my-shop' is not a name in Python"),
        ("what ever", "'what ever' is neither a file nor the name of a module"),
        ("", "is a folder without __init__.py"),
    ],
)
def test_what_is_no_code_is_refused_in_one_line(name: str, complaint: str) -> None:
    with pytest.raises(CommandError, match=complaint) as refused:
        find_target(name)
    assert "\n" not in str(refused.value)
