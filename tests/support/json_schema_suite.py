"""The official tests of JSON Schema 2020-12, and which of them are left out."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from tests.support.paths import VECTORS

SUITE = VECTORS / "json_schema"
REMOTE = "http://localhost:1234/"


class Group(NamedTuple):
    """A schema and the tests of it: `[{"description", "data", "valid"}]`."""

    file: str
    description: str
    schema: Any
    tests: list[dict[str, Any]]

    @property
    def remote(self) -> bool:
        """Whether the schema refers to another document, by `$ref` or `$schema`: those are refused. In
        some it does so only by way of its own `$id`."""
        return (self.file, self.description) in LEFT_OUT or self.file == "refRemote"


def groups() -> list[Group]:
    return [
        Group(path.stem, group["description"], group["schema"], group["tests"])
        for path in sorted(SUITE.glob("*.json"))
        for group in msgspec.json.decode(path.read_bytes())
    ]


# Each of them needs the document at REMOTE that it names; there is no other reason to leave one out.
LEFT_OUT = {
    ("dynamicRef", "strict-tree schema, guards against misspelled properties"),
    ("dynamicRef", "tests for implementation dynamic anchor and reference link"),
    ("dynamicRef", "$ref and $dynamicAnchor are independent of order - $defs first"),
    ("dynamicRef", "$ref and $dynamicAnchor are independent of order - $ref first"),
    ("dynamicRef", "$ref to $dynamicRef finds detached $dynamicAnchor"),
    ("vocabulary", "schema that uses custom metaschema with with no validation vocabulary"),
    ("vocabulary", "ignore unrecognized optional vocabulary"),
}
