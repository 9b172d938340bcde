"""Calls to objects over NATS: connections, numbered requests, retries, and copies of committed state."""
