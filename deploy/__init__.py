"""The tools that start a fleet, on one machine (`local`) or in containers (`docker`).

`nats` holds the NATS server's configuration and permissions. In a wheel this package is
`aidevos.deploy`.
"""
