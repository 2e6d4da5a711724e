"""uv's caches, configuration and guide."""
