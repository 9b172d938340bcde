"""Runs the API gateway service."""

from aidevos import run

from .service import service

run(service)
