"""The validation of a collection's configuration. Nothing here does I/O."""

from __future__ import annotations

import re

from aidevos.contracts.data import GRANT_PATTERN, Config
from aidevos.contracts.errors import Failure

from .access import OPERATIONS, list_grants
from .paths import parse_field, split
from .schemas import Validator

MAX_GRANTS = 16
_is_grant = re.compile(GRANT_PATTERN).fullmatch


def check_config(config: Config) -> None:
    """Raise `invalid`, with the path, if the configuration is not valid."""
    for index, path in enumerate(config.unique):
        split(path, f"args.config.unique[{index}]")
    for index, paths in enumerate(config.indexes):
        for place, path in enumerate(paths):
            parse_field(path, f"args.config.indexes[{index}][{place}]")
    for operation in OPERATIONS:
        grants = list_grants(config.rules, operation)
        if len(grants) > MAX_GRANTS or not all(map(_is_grant, grants)):
            detail = (
                f"a rule may have at most {MAX_GRANTS} grants, each of them owner, authenticated, public, "
                "role:<role> or permission:<permission>"
            )
            raise Failure("invalid", detail, field=f"args.config.rules.{operation}")
    if config.schema is not None:
        Validator(config.schema)
