"""Runs the projects service."""

from aidevos import run

from .service import service

run(service)
