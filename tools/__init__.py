"""What maintainers run and no user installs."""
