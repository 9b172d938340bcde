"""The command that runs the objects service."""

from aidevos import run

from .service import service

run(service)
