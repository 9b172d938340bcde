"""`python -m services.projects`: a process of the projects service."""

from aidevos import run

from .service import service

run(service)
