"""placeholder until merged"""

from typing import Any


class Validator:
    def __init__(self, schema: Any) -> None: ...
    def check(self, data: Any, field: str) -> None: ...
