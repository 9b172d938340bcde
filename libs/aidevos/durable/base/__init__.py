"""Clock, batching, backoff, look-ups and background tasks."""
