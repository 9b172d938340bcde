"""Rules of a collection's configuration; nothing here waits for anything."""

from __future__ import annotations

import re

from aidevos.contracts.data import GRANT_PATTERN, Config
from aidevos.contracts.errors import Failure

from .access import OPERATIONS, grants_of
from .paths import parse_field, split
from .schemas import Validator

MAX_GRANTS = 16
_grant = re.compile(GRANT_PATTERN).fullmatch


def check_config(config: Config) -> None:
    """Raises `invalid` for a configuration that can't be kept, with the path."""
    for place, path in enumerate(config.unique):
        split(path, f"args.config.unique[{place}]")
    for place, paths in enumerate(config.indexes):
        for at, path in enumerate(paths):
            parse_field(path, f"args.config.indexes[{place}][{at}]")
    for operation in OPERATIONS:
        grants = grants_of(config.rules, operation)
        if len(grants) > MAX_GRANTS or not all(map(_grant, grants)):
            detail = (
                f"a rule is at most {MAX_GRANTS} of owner, authenticated, public, role:<role>, permission:<permission>"
            )
            raise Failure("invalid", detail, field=f"args.config.rules.{operation}")
    if config.schema is not None:
        Validator(config.schema)
