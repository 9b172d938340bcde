"""The command that runs the data service."""

from aidevos import run

from .service import service

run(service)
