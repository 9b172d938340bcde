"""Queries over the committed states of objects: searches, views, conditions and pages.

A type declares a `Search`, which answers with pages, or a `View`, whose function reads through a `Reader`. `Find`
selects states by a condition on paths in them. `Lookups` caches the answers of other objects for `LOOKUP_LIFE`
seconds. `check_storable` refuses values that a state can't hold: nesting deeper than `MAX_DEPTH` levels, integers
outside `INT64`, and text that is not Unicode.
"""

from aidevos.contracts.objects import LIST_LIMIT, SearchPage
from aidevos.durable.base.lookups import LIFE as LOOKUP_LIFE
from aidevos.durable.base.lookups import Lookups
from aidevos.durable.objects.declaration import Search, View
from aidevos.durable.objects.reader import Reader
from aidevos.durable.store.codec import INT64, MAX_DEPTH, check_storable
from aidevos.durable.store.conditions import (
    EVERYTHING,
    MISSING,
    And,
    Compare,
    Condition,
    Contains,
    Exists,
    Includes,
    Not,
    OneOf,
    Or,
    Path,
    Scalar,
    StartsWith,
    Text,
    at,
    class_of,
    conjuncts,
    matches,
)
from aidevos.durable.store.port import Document, Find, Match

__all__ = [
    "EVERYTHING",
    "INT64",
    "LIST_LIMIT",
    "LOOKUP_LIFE",
    "MAX_DEPTH",
    "MISSING",
    "And",
    "Compare",
    "Condition",
    "Contains",
    "Document",
    "Exists",
    "Find",
    "Includes",
    "Lookups",
    "Match",
    "Not",
    "OneOf",
    "Or",
    "Path",
    "Reader",
    "Scalar",
    "Search",
    "SearchPage",
    "StartsWith",
    "Text",
    "View",
    "at",
    "check_storable",
    "class_of",
    "conjuncts",
    "matches",
]
