"""pip's caches, configuration and guide."""
