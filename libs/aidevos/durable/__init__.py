"""The framework: durable objects in a fleet of hosts, on NATS and MongoDB.

Each package is one layer and imports only the packages listed before it: base, store, bus, client, objects, access,
turns, ownership, delivery, hosting.
"""
