"""Tasks: their handlers by kind, and the workers that run them."""
