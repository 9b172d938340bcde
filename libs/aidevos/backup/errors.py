"""Errors of backups."""

from __future__ import annotations


class BackupError(Exception):
    """Raised if a backup, a restore or a transfer of objects can't go on. The message is one line for the user."""
