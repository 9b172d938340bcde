"""The official test suite of JSON Schema 2020-12, and the groups that need a remote document."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from tests.support.paths import VECTORS

SUITE = VECTORS / "json_schema"
REMOTE = "http://localhost:1234/"


class Group(NamedTuple):
    """A schema and its tests: `[{"description", "data", "valid"}]`."""

    file: str
    description: str
    schema: Any
    tests: list[dict[str, Any]]

    @property
    def remote(self) -> bool:
        """True if the schema refers to another document by `$ref` or `$schema`, which the product refuses.

        Some groups do so only through their own `$id`.
        """
        return (self.file, self.description) in LEFT_OUT or self.file == "refRemote"


def groups() -> list[Group]:
    return [
        Group(path.stem, group["description"], group["schema"], group["tests"])
        for path in sorted(SUITE.glob("*.json"))
        for group in msgspec.json.decode(path.read_bytes())
    ]


# Each of these needs a document under REMOTE. No group is left out for another reason.
LEFT_OUT = {
    ("dynamicRef", "strict-tree schema, guards against misspelled properties"),
    ("dynamicRef", "tests for implementation dynamic anchor and reference link"),
    ("dynamicRef", "$ref and $dynamicAnchor are independent of order - $defs first"),
    ("dynamicRef", "$ref and $dynamicAnchor are independent of order - $ref first"),
    ("dynamicRef", "$ref to $dynamicRef finds detached $dynamicAnchor"),
    ("vocabulary", "schema that uses custom metaschema with with no validation vocabulary"),
    ("vocabulary", "ignore unrecognized optional vocabulary"),
}
