"""The data service: collections and their items."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aidevos import Service, resource
from aidevos.projects.memberships import Memberships
from aidevos.settings import Settings

from .collection import DataStorageDO
from .collection_holder import CollectionHolderDO
from .cursors import Cursors
from .eraser import EraserDO
from .expiry import remove_expired
from .find import Finder
from .indexes import IndexerDO
from .item import ItemDO
from .terms import TermsCache
from .unique import UniqueDO
from .versions import VersionDO


@resource
async def terms() -> AsyncIterator[TermsCache]:
    yield TermsCache()


@resource
async def memberships() -> AsyncIterator[Memberships]:
    yield Memberships()


@resource
async def finder(settings: Settings, terms: TermsCache, memberships: Memberships) -> AsyncIterator[Finder]:
    yield Finder(terms, memberships, Cursors.load(settings.home))


service = Service(
    "data_storage",
    types=(DataStorageDO, CollectionHolderDO, ItemDO, UniqueDO, VersionDO, EraserDO, IndexerDO),
    resources=(terms, memberships, finder),
    chores=(remove_expired,),
)
