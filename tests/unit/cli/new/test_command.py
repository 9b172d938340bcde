"""The files that `aidevos new` writes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from aidevos.cli.main import main
from aidevos.contracts.data import Config

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    assert main(["new", "project", "grocery"]) == 0
    monkeypatch.chdir(folder / "grocery")
    return folder / "grocery"


def test_a_project_has_everything_to_begin_with(project: Path) -> None:
    paths = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}

    assert paths == {
        ".dockerignore",
        ".github/workflows/ci.yml",
        ".gitignore",
        "Dockerfile",
        "README.md",
        "collections/books.json",
        "grocery/__init__.py",
        "grocery/board.py",
        "grocery/count_words.py",
        "pyproject.toml",
        "tests/test_board.py",
        "tests/test_collections.py",
        "tests/test_count_words.py",
        "web/app.js",
        "web/fleet.js",
        "web/index.html",
    }
    assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["name"] == "grocery"
    assert [path for path in paths if re.search(r"@@|PACKAGE", (project / path).read_text())] == []
    msgspec.json.decode((project / "collections" / "books.json").read_bytes(), type=Config)


def test_an_object_and_a_task_are_added_with_their_tests(project: Path, capsys: Output) -> None:
    capsys.readouterr()
    assert main(["new", "object", "ShoppingCart"]) == 0
    assert main(["new", "task", "report"]) == 0

    written = capsys.readouterr().out.split()
    cart, test_of_cart, report, test_of_report = written
    assert (cart, test_of_cart) == ("grocery/shopping_cart.py", "tests/test_shopping_cart.py")
    assert (report, test_of_report) == ("grocery/report.py", "tests/test_report.py")
    assert 'class ShoppingCart(BaseDurableObject[ShoppingCartState], type="shopping_cart")' in Path(cart).read_text()
    assert "from grocery.report import report" in Path(test_of_report).read_text()


def test_nothing_is_overwritten(project: Path, capsys: Output) -> None:
    (project / "tests" / "test_till.py").write_text("kept")
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    capsys.readouterr()

    assert main(["new", "object", "till"]) == main(["new", "object", "board"]) == main(["new", "task", "board"]) == 2

    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before
    complaints = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in complaints] == ["tests/test_till.py", "grocery/board.py", "grocery/board.py"]


def test_a_project_needs_a_free_folder_and_an_object_needs_a_project(folder: Path, capsys: Output) -> None:
    (folder / "grocery").mkdir()

    assert main(["new", "project", "grocery"]) == main(["new", "object", "cart"]) == 2

    complaints = capsys.readouterr().err.splitlines()
    assert "grocery exists already" in complaints[0]
    assert "no project is here" in complaints[1]
    assert [*(folder / "grocery").iterdir()] == []
