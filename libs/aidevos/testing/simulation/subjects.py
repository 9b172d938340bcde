"""Interest in NATS subjects: which of many patterns match a subject."""

from __future__ import annotations

from typing import Generic, TypeVar

Item = TypeVar("Item")
_ITEMS = ""


class Interest(Generic[Item]):
    """Patterns with their items. Items of one pattern match in the order in which they were added.

    Most patterns have no wildcard, or only one in their last token, as inboxes do. They are found without a search.
    """

    def __init__(self) -> None:
        self._simple: dict[str, list[Item]] = {}
        # All other patterns, as a tree of tokens, and what was found there since it last changed.
        self._root: dict[str, dict[str, object]] = {}
        self._found: dict[str, list[Item]] = {}

    def add(self, pattern: str, item: Item) -> None:
        if _is_simple(pattern):
            self._simple.setdefault(pattern, []).append(item)
            return
        self._found.clear()
        node: dict[str, object] = self._root  # type: ignore[assignment]
        for token in pattern.split("."):
            node = node.setdefault(token, {})  # type: ignore[assignment]
        node.setdefault(_ITEMS, []).append(item)  # type: ignore[attr-defined]

    def remove(self, pattern: str, item: Item) -> None:
        if _is_simple(pattern):
            items = self._simple[pattern]
            items.remove(item)
            if not items:
                del self._simple[pattern]
            return
        self._found.clear()
        self._remove(self._root, pattern.split("."), 0, item)  # type: ignore[arg-type]

    def match(self, subject: str) -> list[Item]:
        """Return the items of all patterns that match a subject."""
        first, _, rest = subject.partition(".")
        found: list[Item] = []
        if first in self._root or "*" in self._root or ">" in self._root:
            known = self._found.get(subject)
            if known is None:
                known = self._found[subject] = []
                _collect(self._root, subject.split("."), 0, known)  # type: ignore[arg-type]
            found += known
        if exact := self._simple.get(subject):
            found += exact
        if rest and (last := self._simple.get(subject[: subject.rindex(".")] + ".*")):
            found += last
        return found

    def _remove(self, node: dict[str, object], tokens: list[str], at: int, item: Item) -> None:
        if at == len(tokens):
            items: list[Item] = node[_ITEMS]  # type: ignore[assignment]
            items.remove(item)
            if not items:
                del node[_ITEMS]
            return
        child: dict[str, object] = node[tokens[at]]  # type: ignore[assignment]
        self._remove(child, tokens, at + 1, item)
        if not child:
            del node[tokens[at]]


def _is_simple(pattern: str) -> bool:
    return ">" not in pattern and "*" not in pattern.removesuffix(".*")


def _collect(node: dict[str, object], tokens: list[str], at: int, found: list[Item]) -> None:
    if at == len(tokens):
        if _ITEMS in node:
            found += node[_ITEMS]  # type: ignore[arg-type]
        return
    child = node.get(tokens[at])
    if child is not None:
        _collect(child, tokens, at + 1, found)  # type: ignore[arg-type]
    child = node.get("*")
    if child is not None:
        _collect(child, tokens, at + 1, found)  # type: ignore[arg-type]
    child = node.get(">")
    if child is not None:
        found += child[_ITEMS]  # type: ignore[index]


def overlap(one: str, other: str) -> bool:
    """Return True if a subject can match both patterns."""
    left, right = one.split("."), other.split(".")
    for a, b in zip(left, right, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(left) == len(right)
