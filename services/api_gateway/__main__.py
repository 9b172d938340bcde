"""`python -m services.api_gateway`: a process of the API gateway's objects."""

from aidevos import run

from .service import service

run(service)
