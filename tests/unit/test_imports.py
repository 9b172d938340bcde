"""The import graph: no module imports itself through others, not even for types alone."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


def test_there_is_no_cycle_between_modules() -> None:
    # Imports under TYPE_CHECKING count too.
    graph = grimp.build_graph("aidevos", "services", "deploy", "tools", cache_dir=None)

    check_acyclic(graph)


def test_a_cycle_is_found() -> None:
    graph = grimp.ImportGraph()
    for importer, imported in (("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")):
        graph.add_import(importer=importer, imported=imported)

    with pytest.raises(CycleError):
        check_acyclic(graph)


def check_acyclic(graph: grimp.ImportGraph) -> None:
    """Raise `CycleError` with the modules of one cycle, if there is one."""
    TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in graph.modules}).prepare()
