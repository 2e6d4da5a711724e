"""uv's caches, configuration and client setup."""
