"""A deterministic simulation of a fleet: its hosts, its clients, NATS and the store in one process and virtual time."""
