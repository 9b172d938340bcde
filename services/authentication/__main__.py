"""The command that runs the authentication service."""

from aidevos import run

from .service import service

run(service)
