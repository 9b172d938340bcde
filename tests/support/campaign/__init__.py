"""The random campaign of the fault suite, on real servers: its fleet, its clients, its faults and its report."""
