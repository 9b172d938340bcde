"""The composition root of the data service."""

from __future__ import annotations

from typing import Any

from aidevos import BaseDurableObject, anyone
from aidevos.contracts.data import FIND, VISIBILITY, VISIBLE, FindItems, VisibilityArgs, VisibleCollections
from aidevos.durable.objects.object import View
from aidevos.projects.memberships import Memberships
from aidevos.settings import Settings

from .collection import CollectionDO
from .collection_views import Lister
from .cursors import Cursors
from .find import Finder
from .indexes import IndexerDO
from .item import ItemDO
from .leaving import EraserDO
from .terms import TermsCache
from .unique import UniqueDO
from .versions import VersionDO

SERVICE = "data_storage"
TYPES: tuple[type[BaseDurableObject[Any]], ...] = (
    CollectionDO,
    ItemDO,
    UniqueDO,
    VersionDO,
    EraserDO,
    IndexerDO,
)


def build(settings: Settings) -> tuple[type[BaseDurableObject[Any]], ...]:
    """The types, with what they work with."""
    ItemDO.terms = terms = TermsCache()
    ItemDO.memberships = CollectionDO.memberships = memberships = Memberships()
    find = View(FIND, anyone(), FindItems, Finder(terms, memberships, Cursors.of(settings.home)).answer)
    ItemDO.views = (*(view for view in ItemDO.views if view.name != FIND), find)
    lister = Lister(memberships)
    listed = (
        View(VISIBLE, anyone(), VisibleCollections, lister.answer),
        View(VISIBILITY, anyone(), VisibilityArgs, lister.visibility),
    )
    CollectionDO.views = (*(view for view in CollectionDO.views if view.name not in (VISIBLE, VISIBILITY)), *listed)
    return TYPES
