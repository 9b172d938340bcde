"""The names of new projects, objects and tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from aidevos.cli.errors import CommandError
from aidevos.cli.new.names import check_object, check_project, check_task, class_name


@pytest.mark.parametrize("name", ["shop", "my_shop2", "a", "board"])
def test_a_project_has_the_name_of_its_package(name: str) -> None:
    assert check_project(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Shop", "such as shop"),
        ("my-shop", "such as my_shop"),
        ("2shop", "a letter first"),
        ("", "a letter first"),
        ("../shop", "such as shop"),
        ("sh\u00f6p", "lower-case letters"),
        ("a" * 49, "up to 48"),
        ("class", "a word of Python itself"),
        ("match", "a word of Python itself"),
        ("tests", "a folder in it is"),
        ("json", "an installed package is"),
        ("httpx2", "an installed package is"),
        ("aidevos", "an installed package is"),
    ],
)
def test_a_project_gets_no_name_that_could_not_be_imported(name: str, reason: str) -> None:
    with pytest.raises(CommandError, match=reason) as refused:
        check_project(name)
    assert "\n" not in str(refused.value)


def test_a_project_may_be_called_like_a_package_in_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "grocery").mkdir()
    (tmp_path / "grocery" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")

    assert check_project("grocery") == "grocery"


@pytest.mark.parametrize(
    ("given", "name", "cls"),
    [
        ("cart", "cart", "Cart"),
        ("Cart", "cart", "Cart"),
        ("ShoppingCart", "shopping_cart", "ShoppingCart"),
        ("shopping_cart", "shopping_cart", "ShoppingCart"),
        ("Lane2Go", "lane2_go", "Lane2Go"),
    ],
)
def test_an_object_may_be_named_after_its_type_or_class(given: str, name: str, cls: str) -> None:
    assert (check_object(given), class_name(name)) == (name, cls)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("counter", "a type of the service objects is"),
        ("User", "a type of the service user_management is"),
        ("fleet", "a type of the service"),
        ("import", "a word of Python itself"),
        ("shop.cart", "such as shop_cart"),
        ("_cart", "such as cart"),
    ],
)
def test_an_object_gets_no_name_that_could_not_be_served(name: str, reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        check_object(name)


@pytest.mark.parametrize(("name", "reason"), [("data", "built-in kinds"), ("a.b", "such as a_b"), ("def", "Python")])
def test_a_task_gets_no_name_that_could_not_be_served(name: str, reason: str) -> None:
    assert check_task("daily_report") == "daily_report"
    with pytest.raises(CommandError, match=reason):
        check_task(name)
