"""Runs the data service."""

from __future__ import annotations

from aidevos.process.service import main
from services.data_storage.bootstrap import SERVICE, build
from services.data_storage.expiry import remove_expired

if __name__ == "__main__":
    main(build, service=SERVICE, chore=remove_expired)
