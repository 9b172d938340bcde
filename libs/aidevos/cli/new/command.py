"""`aidevos new`: a project with everything to begin with, and further objects and tasks in it."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path
from typing import Annotated

from typer import Argument, Typer

from aidevos.cli.errors import CommandError
from aidevos.cli.new.files import Files, render, write
from aidevos.cli.new.names import check_object, check_project, check_task, class_name

# The object and the task of a new project.
OBJECT, TASK = "board", "count_words"
app = Typer(help="Create a project, or add an object or a task to one.")


@app.command("project")
def new_project(
    name: Annotated[str, Argument(metavar="NAME", help="The name of its folder and its package, such as shop.")],
) -> None:
    """Create a project: a package with an object and a task, their tests, a collection's schema and a page.

    Example: aidevos new project shop
    """
    package, folder = check_project(name), Path(name)
    if folder.exists():
        raise CommandError(f"{folder} exists already: nothing was written")
    texts = render("project", _names(package, package)) | _render("object", package, OBJECT)
    write(folder, texts | _render("task", package, TASK))
    print(f"{folder} is a new project. Begin with:")
    print(f"\n  cd {shlex.quote(name)}\n  pip install -e '.[dev]'\n  pytest\n  aidevos dev {package}\n")


@app.command("object")
def new_object(
    name: Annotated[str, Argument(metavar="NAME", help="The name of its type, such as cart or ShoppingCart.")],
) -> None:
    """Add an object type and its test to the project in this folder.

    Example: aidevos new object cart
    """
    _add("object", check_object(name))


@app.command("task")
def new_task(name: Annotated[str, Argument(metavar="NAME", help="The kind of the task, such as report.")]) -> None:
    """Add a task and its test to the project in this folder.

    Example: aidevos new task report
    """
    _add("task", check_task(name))


def _add(kind: str, name: str) -> None:
    texts = _render(kind, _find_package(Path()), name)
    write(Path(), texts)
    for path in texts:
        print(path)


def _render(kind: str, package: str, name: str) -> Files:
    return render(kind, _names(package, name))


def _names(package: str, name: str) -> dict[str, str]:
    return {"package": package, "name": name, "cls": class_name(name), "object": OBJECT, "task": TASK}


def _find_package(folder: Path) -> str:
    """Return the package of the project in a folder. Raises `CommandError`."""
    try:
        name = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]["name"]
    except (OSError, ValueError, KeyError):
        raise CommandError("no project is here: run this in a folder that `aidevos new project` has made") from None
    package = str(name).replace("-", "_")
    if not (folder / package / "__init__.py").is_file():
        raise CommandError(f"the project {name} has no package {package}")
    return package
