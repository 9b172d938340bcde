"""New projects, objects and tasks: `names` checks what they are called, and `files` makes them of `templates`."""
