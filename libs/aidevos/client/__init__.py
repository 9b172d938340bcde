"""The client of a fleet, for programs of any kind."""
