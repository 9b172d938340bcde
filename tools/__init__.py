"""Tools for maintainers, which no user installs."""
