"""Imported last by the process that is forked into the product's programs: what it has derived from the services'
types and everything else that it has loaded is there in its children, which never collect it."""

from __future__ import annotations

import gc
from importlib import import_module

from aidevos.process.serving import check
from tests.support.paths import ROOT

for file in sorted(ROOT.glob("services/*/service.py")):
    check(import_module(f"services.{file.parent.name}.service").service)
gc.collect()
gc.freeze()
