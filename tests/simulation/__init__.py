"""The deterministic simulation of the product's own workloads: `make simulate SEEDS=300`."""
