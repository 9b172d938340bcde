"""Runs the worker of the built-in kinds of tasks."""

from aidevos import run

from .service import service

run(service)
