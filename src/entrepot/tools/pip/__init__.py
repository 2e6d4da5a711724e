"""pip's caches, configuration and client setup."""
