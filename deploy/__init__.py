"""Starts a fleet: on one machine (`local`) or in containers (`docker`), with the servers' permissions (`nats`).

In a wheel this package is `aidevos.deploy`.
"""
