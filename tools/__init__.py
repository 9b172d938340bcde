"""Tools for maintainers; they are not part of the installed package."""
