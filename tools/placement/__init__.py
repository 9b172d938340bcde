"""A simulation of the placement of partitions in a large fleet."""
