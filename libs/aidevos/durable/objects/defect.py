"""Authors' mistakes that show only while a method runs."""

from __future__ import annotations


class Defect(Exception):
    """Raised when an object's code breaks what it declares or what the framework requires of it.

    The caller gets `internal`, and the log has this sentence. A test with the kit fails.
    """
