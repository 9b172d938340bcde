"""The command that runs the worker for the built-in kinds of tasks."""

from aidevos import run

from .service import service

run(service)
