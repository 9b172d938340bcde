"""The store: its port, the adapters for MongoDB and memory, and the conditions of searches."""
