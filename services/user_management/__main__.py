"""The command that runs the user management service."""

from aidevos import run

from .service import service

run(service)
