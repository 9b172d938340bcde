"""`python -m services.events`: a process of the events service."""

from aidevos import run

from .service import service

run(service)
