"""Imported last by the process that forks the product's programs.

Its children inherit all loaded modules and everything derived from the services' types. They never
garbage-collect these objects.
"""

from __future__ import annotations

import gc
from importlib import import_module

from aidevos.process.serving import check
from tests.support.paths import ROOT

for file in sorted(ROOT.glob("services/*/service.py")):
    check(import_module(f"services.{file.parent.name}.service").service)
gc.collect()
gc.freeze()
