"""The composition root of the data service."""

from __future__ import annotations

from typing import Any

from aidevos import BaseDurableObject, anyone
from aidevos.contracts.data import FIND, VISIBILITY, VISIBLE, FindItems, VisibilityArgs, VisibleCollections
from aidevos.durable.objects.declaration import View
from aidevos.projects.memberships import Memberships
from aidevos.settings import Settings
from services.data_storage.collection import CollectionDO
from services.data_storage.collection_views import Lister
from services.data_storage.cursors import Cursors
from services.data_storage.find import Finder
from services.data_storage.indexes import IndexerDO
from services.data_storage.item import ItemDO
from services.data_storage.leaving import EraserDO
from services.data_storage.terms import TermsCache
from services.data_storage.unique import UniqueDO
from services.data_storage.versions import VersionDO

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
